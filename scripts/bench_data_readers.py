"""Ways to read the images of bench_data_sets.py, each an epoch of uint8 batches [B, 3, H, W] in a mixed order."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import simplejpeg
import torch
import webdataset
from bench_data_sets import Sets, jpegs
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hmgan.data import loader
from hmgan.data.images import Reading
from hmgan.data.index import Index
from hmgan.data.index_files import read_index
from hmgan.data.shards import ShardSet
from hmgan.data.store.cache import DiskCache
from hmgan.data.store.folders import THREADS, RemoteFolder
from hmgan.data.store.stores import BLOCK, open_store

BATCH, WINDOWS = 64, 6
Decode = Callable[[bytes], NDArray[np.uint8]]
OTHERS = Path(__file__).with_name("bench_data_others.py")


class Reader(NamedTuple):
    """`epoch` reads all images once and returns how many; `files` are what it reads, to be dropped from memory."""

    name: str
    epoch: Callable[[], int]
    files: Sequence[Path] = ()
    before: Callable[[], object] = lambda: None  # not timed


def fast(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(simplejpeg.decode_jpeg(content, colorspace="RGB"))


def pillow(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


def batched(contents: Iterable[bytes], decode: Decode, size: int) -> int:
    """Decodes straight into batches, the way that costs least."""
    count, contents = 0, iter(contents)
    while part := list(islice(contents, BATCH)):
        pixels_BHWC = np.empty((len(part), size, size, 3), np.uint8)
        for place, content in enumerate(part):
            pixels_BHWC[place] = decode(content)
        count += len(torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2))
    return count


def limit(sets: Sets) -> Reader:
    """Decoding alone, from memory, each image into its place in the batch."""
    contents = [content for content, _ in jpegs(sets.index())]

    def epoch() -> int:
        count = 0
        for first in range(0, len(contents), BATCH):
            part = contents[first : first + BATCH]
            pixels_BHWC = np.empty((len(part), sets.size, sets.size, 3), np.uint8)
            for place, content in enumerate(part):
                simplejpeg.decode_jpeg(content, colorspace="RGB", buffer=pixels_BHWC[place])
            count += len(pixels_BHWC)
        return count

    return Reader("decode alone, from memory", epoch)


def _counted(stream: Iterator[Any], images: int) -> int:
    """Batches of an endless stream, until so many images came."""
    count = 0
    while count < images:
        count += len(next(stream).images)
    return count


def ours(sets: Sets) -> Reader:
    data = ShardSet(sets.shards)

    def epoch() -> int:
        return _counted(loader.batches(data, Reading(batch_per_rank=BATCH, seed=0)), len(data))

    return Reader("hmgan, local", epoch, [sets.shards])


def without_crc32s(index: Index) -> Index:
    """As of a set that was packed before there were any: its shards are checked whole, by their sha256."""
    shards = tuple(replace(shard, by_parts=False) for shard in index.shards)
    return replace(index, shards=shards, crc32=index.crc32[:0])


def ours_from_store(
    url: str, cache: Path, name: str = "hmgan, S3", of: Callable[[Index], Index] = lambda index: index
) -> tuple[Reader, Reader]:
    """The first epoch, with an empty cache, and the second.

    The windows that images are mixed in are of a sixth of this small set, as those of 65,536 images are of a set of
    400,000: while one is decoded the next is downloaded. The first window is waited for, and counted.
    """
    state: dict[str, Any] = {}

    def empty() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        data = ShardSet(of(read_index(url)))
        state["length"] = len(data)
        state["stream"] = loader.batches(data, Reading(batch_per_rank=BATCH, seed=0))

    def epoch() -> int:
        with patch.object(loader, "WINDOW", -(-state["length"] // WINDOWS)):  # read when the first batch is asked for
            return _counted(state["stream"], state["length"])

    return Reader(f"{name}, first epoch", epoch, before=empty), Reader(f"{name}, second epoch", epoch, [cache])


def client(sets: Sets, url: str) -> Reader:
    """obstore alone: the blocks that hmgan asks for, as many at a time; images cut out and decoded as they come."""
    from obstore.store import from_url

    index, store = sets.index(), from_url(url, client_options={"allow_http": True})

    def epoch() -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            blocks = pool.map(lambda b: bytes(store.get_range(b[0], start=b[1], end=b[2])), _blocks(index))
            return batched(_cut(index, blocks), fast, sets.size)

    return Reader("obstore alone, S3", epoch)


def _blocks(index: Index) -> list[tuple[str, int, int]]:
    return [
        (shard.name, start, min(start + BLOCK, shard.bytes))
        for shard in index.shards
        for start in range(0, shard.bytes, BLOCK)
    ]


def _cut(index: Index, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The images of each shard, once its blocks are there."""
    for number, shard in enumerate(index.shards):
        tar = b"".join(islice(blocks, -(-shard.bytes // BLOCK)))
        for row in np.flatnonzero(index.shard == number).tolist():
            offset = int(index.offset[row])
            yield tar[offset : offset + int(index.length[row])]


def bytes_only(sets: Sets, url: str, cache: Path) -> tuple[Reader, Reader, Reader]:
    """Shards brought to this machine, undecoded: by obstore into memory, and by hmgan into its cache.

    Those of an index with crc32s, which are checked as images are decoded, and then by sha256.

    Counted in bytes.
    """
    from obstore.store import from_url

    index, store = sets.index(), from_url(url, client_options={"allow_http": True})
    remote = open_store(url)

    def plain() -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(lambda b: len(store.get_range(b[0], start=b[1], end=b[2])), _blocks(index)))

    def cached(index: Index) -> int:
        folder = RemoteFolder(remote, DiskCache(cache, 1 << 40))
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(folder.fetch, index.shards))
        return sum(shard.bytes for shard in index.shards)

    def empty() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    return (
        Reader("obstore alone, bytes", plain),
        Reader("hmgan, bytes into its cache", partial(cached, index), before=empty),
        Reader("hmgan, bytes into its cache by sha256", partial(cached, without_crc32s(index)), before=empty),
    )


def folder_of_files(sets: Sets, decode: Decode, name: str) -> Reader:
    paths = sorted(sets.files.rglob("*.jpg"))

    def epoch() -> int:
        order = np.random.default_rng(0).permutation(len(paths))
        return batched((paths[i].read_bytes() for i in order.tolist()), decode, sets.size)

    return Reader(name, epoch, [sets.files])


def lmdb_file(sets: Sets) -> Reader:
    import lmdb

    database = lmdb.open(str(sets.lmdb), readonly=True, lock=False, readahead=False)
    images = len(sets.index())

    def epoch() -> int:
        order = np.random.default_rng(0).permutation(images)
        with database.begin() as transaction:
            contents = (transaction.get(f"{i:08d}".encode())[1:] for i in order.tolist())
            return batched(contents, fast, sets.size)

    return Reader("LMDB", epoch, [sets.lmdb])


def webdataset_reader(sets: Sets, decode: Decode | None, name: str) -> Reader:
    """webdataset's pipeline as its documentation has it; decode: its own where left out."""
    urls = [str(sets.shards / shard.name) for shard in sets.index().shards]
    decoder = "torchrgb8" if decode is None else (lambda key, data: _chw(decode(data)) if key.endswith("jpg") else None)

    def epoch() -> int:
        pipeline = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(1000).decode(decoder)
        return sum(len(images) for images, _ in pipeline.to_tuple("jpg", "cls").batched(BATCH))

    return Reader(name, epoch, [sets.shards])


def _chw(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Elsewhere:
    """A library in a Python of its own, because it brings another torch; it times itself."""

    def __init__(self, python: str, library: str, sets: Sets, work: Path) -> None:
        command = [python, str(OTHERS), library, str(sets.files), str(sets.size), str(work)]
        self._log = work / f"{library}.log"
        with open(self._log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.version = self._answer()["version"]

    def epoch(self) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write("epoch\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(
            f"{self._process.args} ended without an answer: {self._log.read_text(encoding='utf-8')[-500:]}"
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
