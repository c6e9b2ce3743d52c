"""The one decoder of images: packing, indexing and every reader see the same pixels. H/W pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from hmgan.errors import UserError

try:
    import simplejpeg
except ImportError:  # slower, and the same images up to the decoders' rounding
    simplejpeg = None

JPEG = b"\xff\xd8"
FILL, APP1, SCAN = 0xFF, 0xE1, 0xDA  # of a JPEG's segments: what begins each; Exif or XMP; pixels
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # size and number of colours
COLOURS, INKS = 9, 4  # the byte of a frame that says how many colours it has, and those of ink
PNG_BITS = 24  # the byte of a PNG that says how many bits a channel has
BACKGROUND = "white"
SCALED = ("PNG", "PPM")  # formats whose 32-bit pixels hold 16 bits


class SizeError(ValueError):
    """An image is of another size than wanted; its text is the size."""


def checked_background(name: str) -> str:
    """The name of a colour, as CSS writes it. Raises UserError if there is no such colour."""
    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise UserError(f"background must be a colour such as white or #8080ff, got {name!r}; name one") from None
    return name


def open_image(content: bytes) -> Image.Image:
    """The image, its header alone read. Raises nearly anything for damaged bytes."""
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("no image, or of an unknown format") from None
    clear = image.info.get("transparency")
    if image.format == "PNG" and content[PNG_BITS] == 16 and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)  # as Pillow reads the pixels themselves
    return image


def transparency(image: Image.Image) -> str:
    """The kind of an image that has transparency, such as "PNG in RGBA"; else nothing."""
    return f"{image.format} in {image.mode}" if image.has_transparency_data else ""


def checked_range(image: Image.Image) -> None:
    """Raises ValueError for 32-bit pixels, whose brightest value is not known."""
    if image.mode == "F" or (image.mode == "I" and image.format not in SCALED):
        raise ValueError("32-bit pixels, whose brightest value is not known; convert them to 8 or 16 bits")


def decode(content: bytes, background: str = BACKGROUND) -> Image.Image:
    """The image in RGB, upright, its transparent pixels composed on a colour.

    Raises: ValueError for 32-bit pixels; nearly anything for damaged bytes.
    """
    with open_image(content) as image:
        image.load()
        return _plain(image, background)


def decode_into(content: bytes, out_HW3: NDArray[np.uint8], background: str = BACKGROUND) -> str:
    """Writes the pixels of `decode` into `out_HW3`, which must be contiguous.

    Returns the kind of image, if it has transparency; else nothing.

    Raises: SizeError for an image of another size; what `decode` raises.
    """
    if _is_plain_jpeg(content):
        try:
            pixels = simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=out_HW3)
        except ValueError:
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
            _check(height, width, out_HW3)  # a larger image does not fit into the buffer
            raise
        _check(pixels.shape[0], pixels.shape[1], out_HW3)
        return ""
    with open_image(content) as image:
        if image.height * image.width != out_HW3.shape[0] * out_HW3.shape[1]:
            raise SizeError(f"{image.width} x {image.height}")  # before all of a large one is decoded
        image.load()
        upright, kind = _plain(image, background), transparency(image)
    _check(upright.height, upright.width, out_HW3)
    out_HW3[:] = np.asarray(upright)
    return kind


class _PlainJpeg:
    """Whether the fast decoder is right: it neither rotates nor knows ink colours, of which there are four.

    Walks the segments before the pixels; to search all bytes for Exif takes longer. What it cannot walk is Pillow's.
    The images of one encoder and size begin alike, so what begins as the last one did is not walked again.
    """

    def __init__(self) -> None:
        self._heads: tuple[bytes, ...] = ()  # of the last one that is

    def __call__(self, content: bytes) -> bool:
        if simplejpeg is None:
            return False
        if content.startswith(self._heads):
            return True
        if content[:2] != JPEG:
            return False
        at, may_turn = 2, False
        try:
            while (marker := content[at + 1]) != SCAN:
                if content[at] != FILL or (marker in FRAMES and content[at + COLOURS] == INKS):
                    return False
                may_turn |= marker == APP1
                at += 1 if marker == FILL else 2 + (content[at + 2] << 8) + content[at + 3]
        except IndexError:
            return False
        if not may_turn:
            self._heads = (content[: at + COLOURS + 1],)  # all that was looked at
            return True
        with open_image(content) as image:
            return image.getexif().get(0x0112, 1) == 1


_is_plain_jpeg = _PlainJpeg()


def _plain(loaded: Image.Image, background: str) -> Image.Image:
    checked_range(loaded)
    image = ImageOps.exif_transpose(loaded)
    if image.mode.startswith("I"):
        # Pillow's own conversion would clip 16 bits to white.
        grey_HW, clear = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray((grey_HW >> 8).astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(grey_HW == clear, 0, 255).astype(np.uint8)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")


def _check(height: int, width: int, out_HW3: NDArray[np.uint8]) -> None:
    if (height, width) != out_HW3.shape[:2]:
        raise SizeError(f"{width} x {height}")
