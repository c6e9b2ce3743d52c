"""The resolution of a packed set: given, or that of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hmgan.data.decode import open_image
from hmgan.data.pack.image_folders import Item
from hmgan.data.pack.progress import counting
from hmgan.errors import UserError
from hmgan.files import check_limits

MOST_PIXELS = 4096  # of a side: 48 MB an image, with several per thread in memory


def power_of_two(resolution: int) -> int:
    """The resolution. Raises UserError unless it is a power of two within bounds."""
    if not 4 <= resolution <= MOST_PIXELS or resolution & (resolution - 1):
        below = min(max(4, 1 << max(0, resolution.bit_length() - 1)), MOST_PIXELS // 2)
        raise UserError(
            f"the resolution must be a power of two and at least 4, at most {MOST_PIXELS}, got {resolution}; "
            f"pass --resolution {below} or {2 * below}, with --pad to add a border instead of resizing"
        )
    return resolution


def common_size(src: Path, items: Sequence[tuple[str, Item]], *, fit: str, pad: int) -> int:
    """The one size of all the readable images, padding included. Raises UserError if they differ or none is."""
    sizes: dict[int, str] = {}
    with counting(f"measuring {src.name}", len(items)) as advance:
        for _, item in items:
            if side := _side(item, fit):
                sizes.setdefault(side + 2 * pad, item.key)
            advance()
    if not sizes:
        raise UserError(
            f"none of the {len(items)} images in {src} can be read, such as {items[0][1].key}; replace them"
        )
    if len(sizes) > 1:
        some = ", ".join(f"{size} px ({key})" for size, key in sorted(sizes.items())[:2])
        raise UserError(f"the images in {src} must share one size, got {some}; pass --resolution to resize them")
    return next(iter(sizes))


def _side(item: Item, fit: str) -> int | None:
    """The side of the square it will become, from the image's header alone; None if it cannot be read."""
    try:
        with open_image(item.read()) as image:
            return max(image.size) if fit == "pad" else min(image.size)
    except Exception as error:  # damaged: told and counted when the image is packed
        check_limits(error)
        return None
