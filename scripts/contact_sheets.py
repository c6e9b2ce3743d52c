"""What the build_* scripts write: a set as lossless contact sheets, one per class, and a sheets.json that cuts them.

A source's training set is packed, as what a user has: it is too large to come with the package.

N tiles, T pixels a side; grey tiles have no axis of colours.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.pack.image_folders import SHEETS, SHEETS_FORMAT, contact_sheets
from hmgan.data.pack.pack import pack

Tiles = NDArray[np.uint8]  # [N, T, T] or [N, T, T, 3]

SEED = 0  # of the order of images without labels
COLUMNS = 50  # tiles side by side
TALLEST = 16383  # pixels of a WebP file
EFFORT = 80  # of WebP's compression: at 100 it takes fifty times as long for half a percent


class Encoded(NamedTuple):
    """A sheet as a file: its extension and content."""

    extension: str
    content: bytes


def sheet(tiles: Tiles, columns: int = COLUMNS) -> Image.Image:
    """Tiles in rows of `columns`; the rest of the last row is black."""
    count, size, *colours = len(tiles), *tiles.shape[2:]
    rows = -(-count // columns)
    filled = np.concatenate([tiles, np.zeros((rows * columns - count, *tiles.shape[1:]), np.uint8)])
    grid = filled.reshape(rows, columns, size, size, *colours).swapaxes(1, 2)
    return Image.fromarray(np.ascontiguousarray(grid.reshape(rows * size, columns * size, *colours)))


def columns_of(count: int, size: int) -> int:
    """COLUMNS, or so many that the sheet is no taller than a WebP file may be."""
    return max(COLUMNS, -(-count // (TALLEST // size)))


def shuffled(tiles: Tiles) -> Tiles:
    """Tiles in a random order of SEED."""
    return tiles[np.random.default_rng(SEED).permutation(len(tiles))]


def smallest(image: Image.Image) -> Encoded:
    """The smaller of two lossless encodings."""
    webp, png = io.BytesIO(), io.BytesIO()
    image.save(webp, "WEBP", lossless=True, quality=EFFORT, method=6)
    image.save(png, "PNG", optimize=True)
    return min((Encoded("webp", webp.getvalue()), Encoded("png", png.getvalue())), key=lambda one: len(one.content))


def write_set(folder: Path, classes: Mapping[str, Tiles]) -> int:
    """Write one set, check that it reads back exactly, and return its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    size = next(iter(classes.values())).shape[1]
    columns = columns_of(max(map(len, classes.values())), size)
    entries = []
    for name, tiles in classes.items():
        extension, content = smallest(sheet(tiles, columns))
        (folder / f"{name}.{extension}").write_bytes(content)
        entries.append({"file": f"{name}.{extension}", "class": name, "count": len(tiles)})
    head = {"format": SHEETS_FORMAT, "tile": size, "columns": columns, "sheets": entries}
    (folder / SHEETS).write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    check(folder, classes)
    return sum(file.stat().st_size for file in folder.iterdir())


def check(folder: Path, classes: Mapping[str, Tiles]) -> None:
    """Raises RuntimeError if the tiles on disk are not these."""
    wanted = np.concatenate(list(classes.values()))
    mode = "L" if wanted.ndim == 3 else "RGB"
    back = [np.asarray(Image.open(io.BytesIO(item.read())).convert(mode)) for item in contact_sheets(folder).items]
    if not np.array_equal(np.stack(back), wanted):
        raise RuntimeError(f"{folder} does not read back as it was written")


def write_sets(out: Path, sets: Mapping[str, Callable[[], Mapping[str, Tiles]]], only: list[str] | None) -> None:
    """Write the sets that are named, or all, and say how large they are."""
    total = 0
    for name in only or sets:
        classes = sets[name]()
        written = write_set(out / name, classes)
        total += written
        print(f"{name:24s} {sum(map(len, classes.values())):6d} images {written:10,d} bytes", flush=True)
    print(f"{'total':24s} {'':13s} {total:10,d} bytes")


def pack_tiles(tiles: Tiles, out: Path, pad: int = 0) -> int:
    """Pack tiles as shards, without labels and in a random order of SEED, and return their count."""
    with TemporaryDirectory() as folder:
        for i, tile in enumerate(shuffled(tiles)):
            Image.fromarray(tile).save(Path(folder, f"{i:05d}.png"), compress_level=1)
        return sum(pack(folder, out, pad=pad).counts)
