"""Decodes the bytes of an image into a buffer of pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ImportError:  # slower, and the same images up to the decoders' rounding
    simplejpeg = None

JPEG = b"\xff\xd8"


class SizeError(ValueError):
    """An image is of another size than wanted; its text is the size."""


def decode_into(content: bytes, out_HW3: NDArray[np.uint8]) -> None:
    """Writes RGB pixels into `out_HW3`, which must be contiguous.

    Raises: SizeError for an image of another size; nearly anything for damaged bytes.
    """
    if simplejpeg is not None and content[:2] == JPEG:
        try:
            pixels = simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=out_HW3)
        except ValueError:
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
            _check(height, width, out_HW3)  # a larger image does not fit into the buffer
            raise
        _check(pixels.shape[0], pixels.shape[1], out_HW3)
        return
    with Image.open(io.BytesIO(content)) as image:
        _check(image.height, image.width, out_HW3)
        out_HW3[:] = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check(height: int, width: int, out_HW3: NDArray[np.uint8]) -> None:
    if (height, width) != out_HW3.shape[:2]:
        raise SizeError(f"{width} x {height}")
