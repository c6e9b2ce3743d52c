"""The same JPEG images in every form that bench_data.py reads: shards, an object store, a folder of files, LMDB."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.index import Index
from hmgan.data.index_files import read_index
from hmgan.data.pack.image_folders import ImageSource, Item
from hmgan.data.pack.pack import pack
from hmgan.data.store.stores import open_store

CLASSES, QUALITY = ("a", "b", "c"), 95
HAS_LMDB = find_spec("lmdb") is not None  # these scripts' alone
SHARD_BYTES = 16 << 20  # about
FALL = 1.45  # exponent of the amplitudes


class Sets(NamedTuple):
    """Where the images of one size are."""

    size: int  # pixels
    shards: Path
    files: Path  # a folder per class
    lmdb: Path
    url: str | None  # of the shards in an object store

    def index(self) -> Index:
        return read_index(self.shards)


def photographs(_: Path, *, size: int, count: int) -> ImageSource:
    """Noise whose spectrum falls with the frequency, as that of photographs does.

    At 256 px and quality 95 they are JPEG images of 34 KiB; a photograph (matplotlib's sample) is one of 33 KiB.
    """
    return ImageSource(
        [Item(f"{i:06d}", CLASSES[i % len(CLASSES)], partial(_photograph, size, i)) for i in range(count)], CLASSES
    )


def _photograph(size: int, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf  # no mean
    noise_3HW = random.standard_normal((3, size, size))
    image_3HW = np.fft.irfft2(np.fft.rfft2(noise_3HW) / frequency**FALL, s=(size, size))
    colours_33 = np.full((3, 3), 0.6) + 0.4 * np.eye(3)  # the channels of a photograph are much alike
    image_HW3 = np.tensordot(image_3HW / image_3HW.std(), colours_33, ((0,), (0,)))
    pixels = np.clip(128 + 40 * image_HW3, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def make(folder: Path, size: int, count: int, url: str | None) -> Sets:
    """All forms of `count` images of `size` pixels."""
    sets = Sets(size, folder / "shards", folder / "files", folder / "lmdb", url)
    folder.mkdir(parents=True)
    each = size * size // 2  # bytes of an image, more or less
    index = pack(
        folder,
        sets.shards,
        opens=partial(photographs, size=size, count=count),
        resolution=size,
        name="bench",
        extension="jpg",
        quality=QUALITY,
        shard_samples=max(1, min(count // 6, SHARD_BYTES // each)),
    )
    contents = list(jpegs(index))
    for number, (content, label) in enumerate(contents):
        place = sets.files / CLASSES[label] / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    if HAS_LMDB:
        _write_lmdb(sets.lmdb, contents)
    if url is not None:
        store = open_store(url)
        for path in sorted(sets.shards.iterdir(), key=lambda path: path.name == "index.json"):
            store.put(path.name, path.read_bytes())
    os.sync()  # dirty pages cannot be dropped
    return sets


def jpegs(index: Index) -> Iterator[tuple[bytes, int]]:
    """Bytes and label of every image, in the order of the index."""
    tars = [(Path(str(index.folder)) / shard.name).read_bytes() for shard in index.shards]
    rows: NDArray[np.int64] = np.stack([index.shard, index.offset, index.length, index.label], 1).astype(np.int64)
    for shard, offset, length, label in rows.tolist():
        yield tars[shard][offset : offset + length], label


def _write_lmdb(folder: Path, contents: Iterable[tuple[bytes, int]]) -> None:
    import lmdb

    with lmdb.open(str(folder), map_size=1 << 34) as database, database.begin(write=True) as transaction:
        for number, (content, label) in enumerate(contents):
            transaction.put(f"{number:08d}".encode(), bytes([label]) + content)


def drop_from_memory(places: Iterable[Path]) -> None:
    """Has the next read of these files come from the disk: the kernel forgets their pages."""
    for place in places:
        for path in place.rglob("*") if place.is_dir() else (place,):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)
