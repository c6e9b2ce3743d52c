"""Image grids with Pillow: no torchvision. N images, C channels, H/W pixels, R/K grid rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hmgan.errors import UserError
from hmgan.files import write_atomically

WHITE = 255
LONGEST_NAME, MOST_LETTERS = 12, 200  # of a row's name: its width in font sizes, and letters that are looked at
MOST_PIXELS = 2**26  # of a picture: 8192 x 8192, which viewers still open


def to_uint8(images_NCHW: Tensor) -> Tensor:
    """[-1, 1] float -> 0..255 uint8, halves up, out-of-range values clamped. Inverts x / 127.5 - 1 exactly.

    Raises: UserError for pixels that are not finite, which would be black or white.
    """
    if not images_NCHW.isfinite().all():
        raise UserError("the generator draws pixels that are not finite; give an earlier snapshot, or train it anew")
    return (images_NCHW.float() * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)


def enlarged(images_NCHW: Tensor, scale: int) -> Tensor:
    """Every pixel `scale` times as wide and high, so that pixels stay pixels."""
    return images_NCHW.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def grid(images_NCHW: Tensor, columns: int, pad: int = 2) -> Image.Image:
    """[N, 3, H, W] uint8 -> one RGB image, row by row, on white, `pad` pixels around each cell.

    Raises: ValueError for no images, another dtype or shape, or fewer than 1 column.
    """
    _check(images_NCHW)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    return pasted(images_NCHW, len(images_NCHW), columns, pad)


def pasted(images: Iterable[Tensor], count: int, columns: int, pad: int = 2) -> Image.Image:
    """The grid of `count` images [3, H, W] uint8 that need not be in memory together."""
    sheet = None
    for i, image_CHW in enumerate(images):
        height, width = image_CHW.shape[1:]
        if sheet is None:
            sheet = Image.new(
                "RGB", (columns * (width + pad) + pad, -(-count // columns) * (height + pad) + pad), "white"
            )
        row, column = divmod(i, columns)
        picture = Image.fromarray(image_CHW.permute(1, 2, 0).contiguous().cpu().numpy())
        sheet.paste(picture, (pad + column * (width + pad), pad + row * (height + pad)))
    assert sheet is not None
    return sheet


def check_size(columns: int, rows: int, side: int) -> None:
    """Raises UserError for a grid of more pixels than viewers open, before it is drawn."""
    if columns * rows * side * side > MOST_PIXELS:
        size = f"{columns * side:,} x {rows * side:,} pixels"
        raise UserError(f"a grid of {columns} x {rows} images has {size}, at most {MOST_PIXELS:,} fit; draw fewer")


def labelled_grid(rows: Mapping[str, Tensor], scale: int = 1) -> Image.Image:
    """One row of images per class, its name in the left margin, on white.

    Args:
        rows: class -> [N, 3, H, W] uint8; rows may differ in N, not in H and W.
        scale: screen pixels per image pixel.

    Raises: ValueError for no rows, images of two sizes, or a scale below 1.
    """
    if not rows or scale < 1:
        raise ValueError(f"a labelled grid needs rows and a scale of at least 1, got {len(rows)} rows, scale {scale}")
    for images_NCHW in rows.values():
        _check(images_NCHW)
    sizes = {tuple(images_NCHW.shape[2:]) for images_NCHW in rows.values()}
    if len(sizes) > 1:
        raise ValueError(f"all rows must share one image size, got {sorted(sizes)}")
    pad = 2 * scale
    images_RKCHW = pad_sequence([images.cpu() for images in rows.values()], batch_first=True, padding_value=WHITE)
    sheet = grid(enlarged(images_RKCHW.flatten(0, 1), scale), images_RKCHW.shape[1], pad)
    pitch = (sheet.height - pad) // len(rows)
    middles = [i * pitch + (pitch + pad) // 2 for i in range(len(rows))]
    return with_row_names(sheet, list(rows), middles, max(12, min(28, pitch // 4)))


def with_row_names(sheet: Image.Image, names: Sequence[str], middles: Sequence[int], size: int) -> Image.Image:
    """The sheet, and left of it each name, `size` pixels high, centred on its row's middle."""
    font = ImageFont.load_default(size=size)
    names = [fitted(name, font, LONGEST_NAME * size) for name in names]
    margin = math.ceil(max(font.getbbox(name)[2] for name in names)) + size
    whole = Image.new("RGB", (margin + sheet.width, sheet.height), "white")
    whole.paste(sheet, (margin, 0))
    draw = ImageDraw.Draw(whole)
    for name, middle in zip(names, middles, strict=True):
        # "rm": right-aligned at the images, centred on the row.
        draw.text((margin - size / 2, middle), name, fill="black", font=font, anchor="rm")
    return whole


def fitted(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """The name on one line, cut off with an ellipsis where it is wider than `room` pixels."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:MOST_LETTERS]
    shorter = (f"{name[:end]}..." for end in range(len(name), 0, -1))
    return next((text for text in (name, *shorter) if font.getlength(text) <= room), "...")


def check_png(path: Path) -> None:
    """Raises UserError for a picture's name that is of another format."""
    if path.suffix.lower() != ".png":
        raise UserError(f"pictures are PNG files, got {str(path)!r}; give a name that ends in .png")


def save_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG whole or not at all, so that no viewer opens half a file. Makes the folder.

    Raises: UserError for a name of another format.
    """
    check_png(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def _check(images_NCHW: Tensor) -> None:
    if images_NCHW.dtype != torch.uint8 or images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3 or not len(images_NCHW):
        got = f"{images_NCHW.dtype} {list(images_NCHW.shape)}"
        raise ValueError(f"a grid needs one or more uint8 images [N, 3, H, W], got {got}; use to_uint8")
