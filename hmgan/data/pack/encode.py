"""An image on its way into a shard: resized, encoded. H/W pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.errors import UserError

MOST_SIDE = 9000  # pixels of a padded square: what Pillow takes for the largest harmless image


def cropped(image: Image.Image) -> Image.Image:
    """The square in the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def padded(image: Image.Image) -> Image.Image:
    """The whole image in the middle of a square, framed in the colour of its border."""
    side = max(image.size)
    if side > MOST_SIDE:
        raise ValueError(f"{image.width} x {image.height} becomes a square of {side} px, more than {MOST_SIDE}")
    left, top = (side - image.width) // 2, (side - image.height) // 2
    return _framed(np.asarray(image), left, top, (side, side))


FITS: Mapping[str, Callable[[Image.Image], Image.Image]] = {"crop": cropped, "pad": padded}


def fitted(square: Image.Image, resolution: int, pad: int, what: str) -> Image.Image:
    """The image framed with `pad` pixels on each side, or else resized with Lanczos' filter.

    Raises: UserError if the pad does not give the resolution.
    """
    side = square.width
    if pad:
        if side + 2 * pad != resolution:
            got = f"{side} px with --pad {pad} for --resolution {resolution}"
            raise UserError(f"{what}: the size and twice the pad must give the resolution, got {got}; change --pad")
        return _framed(np.asarray(square), pad, pad, (resolution, resolution))
    if side == resolution:
        return square
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _framed(pixels: NDArray[np.uint8], left: int, top: int, size: tuple[int, int]) -> Image.Image:
    """[H, W, 3] framed in the median of its outermost pixels, so that an object at the edge is not smeared."""
    outermost = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    framed = np.empty((*size, 3), np.uint8)
    framed[:] = np.sort(outermost, axis=0)[len(outermost) // 2]
    framed[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return Image.fromarray(framed)


ENCODERS: Mapping[str, str] = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}  # file extension -> Pillow's name


def encode(image: Image.Image, extension: str, quality: int) -> bytes:
    """The image's file; JPEG and WebP heed the quality, PNG keeps every pixel."""
    file = io.BytesIO()
    image.save(file, ENCODERS[extension], quality=quality)
    return file.getvalue()
