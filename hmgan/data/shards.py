"""Packed images as a map-style data set: an index, and reads at known offsets in the tar files."""

from __future__ import annotations

import copy
import hashlib
import os
import tarfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hmgan.data.decode import BACKGROUND, SizeError, decode_into
from hmgan.data.index import Index
from hmgan.data.index_files import read_index
from hmgan.data.indexed import Indexed
from hmgan.data.order import WINDOW, Order
from hmgan.data.store.folders import AGAIN
from hmgan.errors import DamageError, UserError, some_of
from hmgan.files import check_limits
from hmgan.types import UNLABELLED

HEADER = tarfile.BLOCKSIZE  # bytes; a tar member's header ends where its data begins
OPEN_FILES = 256  # kept open at most; a process may often have 1024 in all


class ShardSet(Indexed, Dataset[tuple[Tensor, int]]):
    """N images with their labels.

    Args:
        source: the path or URL of a folder that `pack` wrote, or its index.
        resolution: pixels that the images must have; left out: any.
        classes: use these only, relabelled 0, 1, ... in this order; left out: all.
        per_class: use the first so many images of each class, a random choice since packing shuffles; 0: all.

    Shapes: item i is (uint8 [3, H, W], int); labels is int64 [N].
    Raises: UserError if the set does not fit the arguments or an image cannot be read; DamageError if it never can.

    Reads are `os.pread`, which moves no shared position: forked and spawned workers can read at once. Not for threads.
    """

    def __init__(
        self,
        source: str | Path | Index,
        *,
        resolution: int | None = None,
        classes: Sequence[str] | None = None,
        per_class: int = 0,
    ) -> None:
        self._files: OrderedDict[int, int] = OrderedDict()  # first: `close` runs even if the rest fails
        self.index = source if isinstance(source, Index) else read_index(source)
        self.sharing = 1  # sets that one process reads in turns, which share OPEN_FILES
        # Not from a disk: it costs 1% to 2% of decoding, and no network lies between.
        self.checks = self.index.folder.cached  # the crc32 of each image, where the index has them
        self._lasting: set[int] = set()  # shards whose damage another download does not mend
        if resolution not in (None, self.index.resolution):
            raise UserError(
                f"the data in {self.index.folder} is {self.index.resolution} px, the network wants {resolution} px; "
                f"pack the data again with --resolution {resolution}, or choose a network of that size"
            )
        self.resolution = self.index.resolution
        self.classes = self.index.classes if classes is None else tuple(classes)
        self._chosen = () if self.classes == self.index.classes else self.classes  # for the digest
        self._label_of = self._relabelled()
        some = (self._label_of < 0).any()
        self._rows = np.flatnonzero(self._label_of[self.index.label] >= 0) if some else None
        self.counts = tuple(self.index.counts[self.index.classes.index(name)] for name in self.classes)
        if per_class:
            self._keep_first(per_class)
        self._length = sum(self.counts)

    @property
    def labels(self) -> Tensor:
        """Made anew each time: they are not kept for a large set."""
        labels = self.index.label if self._rows is None else self.index.label[self._rows]
        return torch.from_numpy(self._label_of[labels])

    @property
    def shard_sizes(self) -> NDArray[np.int64]:
        """[S] images of each shard."""
        bounds = np.cumsum([0, *(shard.samples for shard in self.index.shards)])
        return np.diff(bounds if self._rows is None else np.searchsorted(self._rows, bounds))

    @property
    def indexes(self) -> tuple[Index, ...]:
        return (self.index,)

    def order(self, *, seed: int, batch: int = 1, window: int = WINDOW) -> Order:
        return Order(self.shard_sizes, seed=seed, window=window)

    @property
    def digest(self) -> str:
        if not self._chosen:
            return self.index.digest
        return hashlib.sha256("\n".join((self.index.digest, *self._chosen)).encode()).hexdigest()

    def unlabelled(self) -> ShardSet:
        if self.classes == (UNLABELLED,):
            return self
        view = copy.copy(self)
        view.classes, view.counts = (UNLABELLED,), (len(self),)
        view._label_of = np.zeros_like(self._label_of)
        view._chosen = (*self._chosen, "", UNLABELLED)  # no class has an empty name
        return view

    def __len__(self) -> int:
        return self._length

    def read_into(self, images: Sequence[int], out_BHW3: NDArray[np.uint8]) -> list[int]:
        """Looks all rows up at once: one by one costs as much as a third of decoding 64 px."""
        rows = self._rows_of(images)
        index = self.index
        places = (index.shard[rows].tolist(), index.offset[rows].tolist(), index.length[rows].tolist())
        crc32s = index.crc32[rows].tolist() if self.checks and len(index.crc32) else [None] * len(rows)
        for row, shard, offset, length, crc32, out_HW3 in zip(rows.tolist(), *places, crc32s, out_BHW3, strict=True):
            content = os.pread(self._opened(shard), length, offset)
            if len(content) != length:
                got = f"{len(content)} of {length} bytes"
                raise DamageError(f"{self._where(row)} is cut off: got {got}; copy the shard again, or {AGAIN}")
            if crc32 is not None and zlib.crc32(content) != crc32:
                content = self._mended(row, shard, crc32)
            self._decode(row, content, out_HW3)
        return self._label_of[index.label[rows]].tolist()

    def _mended(self, row: int, shard: int, crc32: int) -> bytes:
        """The bytes of an image from a better copy of its shard. Raises DamageError if there is none.

        The first is what another process has downloaded meanwhile: for a worker, whose owner does it, the only one.
        """
        folder, file, tries = self.index.folder, self.index.shards[shard], 0
        while not tries or (shard not in self._lasting and folder.renew(file, tries)):
            tries += 1
            if shard in self._files:
                os.close(self._files.pop(shard))
            content = os.pread(self._opened(shard), int(self.index.length[row]), int(self.index.offset[row]))
            if zlib.crc32(content) == crc32:
                return content
        self._lasting.add(shard)
        raise DamageError(
            f"{self._where(row)} has not the crc32 that the index says; copy that shard there again, or the index that "
            "belongs to it"
        )

    def _decode(self, row: int, content: bytes, out_HW3: NDArray[np.uint8]) -> None:
        try:
            kind = decode_into(content, out_HW3, self.index.background or BACKGROUND)
        except SizeError as error:
            want = f"{self.resolution} x {self.resolution}"
            raise DamageError(f"{self._where(row)} must be {want} px, got {error}; {AGAIN}") from None
        except Exception as error:
            check_limits(error)
            raise DamageError(f"{self._where(row)} cannot be decoded: {error}; {AGAIN}") from error
        if kind and self.index.background is None:
            raise UserError(
                f"{self._where(row)} has transparency, and the index is of an earlier hmgan, which showed the colours "
                f"under it; run `hmgan index {self.index.folder}` for one that says what is behind"
            )

    def shard_of(self, i: int) -> int:
        return int(self.index.shard[self._row(i)])

    def prefetch(self, windows: Sequence[Sequence[int]], beside: int = 0) -> None:
        """Prefetches shards; `beside` are the bytes that other sets keep in the same cache."""
        self.index.folder.prefetch([[self.index.shards[shard] for shard in window] for window in windows], beside)

    def cached_bytes(self, shards: Iterable[int]) -> int:
        """What shards take up in the cache; nothing where they are read in place."""
        return sum(self.index.shards[shard].bytes for shard in shards) if self.index.folder.cached else 0

    def fetch(self, items: Iterable[int]) -> None:
        for shard in np.unique(self.index.shard[self._rows_of(list(items))]).tolist():
            self._opened(shard)

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker opens its own files: descriptors are numbers that mean nothing there.
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        self.close()

    def place(self, i: int) -> tuple[str, str]:
        """The image's shard and key; the byte it starts at, if its tar header is damaged."""
        row = self._row(i)
        return self.index.shards[self.index.shard[row]].name, self._key(row) or f"byte {self.index.offset[row]}"

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _relabelled(self) -> NDArray[np.int64]:
        """[classes of the index] positions in `self.classes`; -1 where a class is not in use."""
        index = self.index
        if repeated := [name for name in self.classes if self.classes.count(name) > 1]:
            raise UserError(f"classes must differ from each other, got {repeated[0]!r} twice; name each once")
        if unknown := [name for name in self.classes if name not in index.classes]:
            known = some_of(index.classes)
            raise UserError(f"no class {unknown[0]!r} in {index.folder}; its classes: {known}")
        if not self.classes:
            raise UserError(f"classes must name at least one class, got none; its classes: {some_of(index.classes)}")
        labels = np.full(len(index.classes), -1, np.int64)
        labels[[index.classes.index(name) for name in self.classes]] = np.arange(len(self.classes))
        return labels

    def _keep_first(self, per_class: int) -> None:
        labels = self.labels.numpy()
        kept = []
        for label, (name, count) in enumerate(zip(self.classes, self.counts, strict=True)):
            if count < per_class:
                raise UserError(
                    f"per_class wants {per_class} images of each class, {self.index.folder} has {count} of {name!r}; "
                    "lower it, or leave the class out"
                )
            kept.append(np.flatnonzero(labels == label)[:per_class])
        chosen = np.sort(np.concatenate(kept))
        self._rows = chosen if self._rows is None else self._rows[chosen]
        self._chosen = (*self.classes, "", str(per_class))  # no class has an empty name
        self.counts = (per_class,) * len(self.classes)

    def _rows_of(self, images: Sequence[int]) -> NDArray[np.int64]:
        images_B = np.asarray(images, np.int64)
        if len(images) and not 0 <= images_B.min() <= images_B.max() < len(self):
            raise IndexError(images)
        return images_B if self._rows is None else self._rows[images_B]

    def _row(self, i: int) -> int:
        return int(self._rows_of([i])[0])

    def _where(self, row: int) -> str:
        """Key, byte and shard."""
        key = self._key(row)
        shard = f"{self.index.folder}/{self.index.shards[self.index.shard[row]].name}"
        place = f"at byte {self.index.offset[row]} in shard {shard}"
        return f"image {key} {place}" if key else f"image {place} (its tar header is damaged too)"

    def _key(self, row: int) -> str:
        """From the tar header in front of the image; empty if that is damaged."""
        shard = self._opened(int(self.index.shard[row]))
        header = os.pread(shard, HEADER, int(self.index.offset[row]) - HEADER)
        try:
            return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name.rpartition(".")[0]
        except tarfile.HeaderError:
            return ""

    def _opened(self, shard: int) -> int:
        if shard not in self._files:
            self._files[shard] = self.index.folder.open(self.index.shards[shard])
            if len(self._files) > max(1, OPEN_FILES // self.sharing):
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(shard)
        return self._files[shard]
