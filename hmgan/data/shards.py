"""Packed images as a map-style data set: an index, and reads at known places in the tar files."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from hmgan.data.index import Index, read_index
from hmgan.data.sources import UNLABELLED
from hmgan.errors import UserError

try:
    import simplejpeg
except ImportError:  # slower, and the same images up to the decoders' rounding
    simplejpeg = None

HEADER = tarfile.BLOCKSIZE  # bytes; a tar member's header ends where its data begins
OPEN_FILES = 256  # kept open at most; a process may often have 1024 in all


class ShardSet(Dataset[tuple[Tensor, int]]):
    """N images with their labels.

    Args:
        source: the folder that `pack` wrote, or its index.
        resolution: pixels that the images must have; left out: any.
        classes: use these only, relabelled 0, 1, ... in this order; left out: all.

    Shapes: item i is (uint8 [3, H, W], int); labels is int64 [N].
    Raises: UserError if the set does not fit the arguments, or when an image cannot be read.

    Reads are `os.pread`, which moves no shared position: forked and spawned workers can read at once. Not for threads.
    """

    def __init__(
        self, source: str | Path | Index, *, resolution: int | None = None, classes: Sequence[str] | None = None
    ) -> None:
        self.index = source if isinstance(source, Index) else read_index(source)
        self._files: OrderedDict[int, int] = OrderedDict()
        if resolution not in (None, self.index.resolution):
            raise UserError(
                f"the data in {self.index.root} is {self.index.resolution} px, the network wants {resolution} px; "
                f"pack the data again with --resolution {resolution}, or choose a network of that size"
            )
        self.resolution = self.index.resolution
        self.classes = self.index.classes if classes is None else tuple(classes)
        self._chosen = () if self.classes == self.index.classes else self.classes  # for the digest
        self._rows, labels = self._select()
        self.labels = torch.from_numpy(labels)
        self.counts = tuple(np.bincount(labels, minlength=len(self.classes)).tolist())

    @property
    def digest(self) -> str:
        """Identifies the images, the labels and their order."""
        if not self._chosen:
            return self.index.digest
        return hashlib.sha256("\n".join((self.index.digest, *self._chosen)).encode()).hexdigest()

    def unlabelled(self) -> ShardSet:
        """The same images in the same order, all of one class."""
        if self.classes == (UNLABELLED,):
            return self
        view = copy.copy(self)
        view.classes, view.counts, view.labels = (UNLABELLED,), (len(self),), torch.zeros_like(self.labels)
        view._chosen = (*self._chosen, "", UNLABELLED)  # no class has an empty name
        return view

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        row = self._rows[i]
        try:
            image = _decode(self._read(row))
        except Exception as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self._where(row)} cannot be decoded: {error}; pack the data again") from error
        if image.shape[1:] != (self.resolution, self.resolution):
            got = f"{image.shape[2]} x {image.shape[1]}"
            want = f"{self.resolution} x {self.resolution}"
            raise UserError(f"{self._where(row)} must be {want} px, got {got}; pack the data again")
        return image, int(self.labels[i])

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker opens its own files: descriptors are numbers that mean nothing there.
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self) -> None:
        self.close()

    def place(self, i: int) -> tuple[str, str]:
        """The shard that holds an image, and its key in there; where it starts, if its tar header is damaged."""
        row = self._rows[i]
        return self.index.shards[self.index.shard[row]].name, self._key(row) or f"byte {self.index.offset[row]}"

    def close(self) -> None:
        """Close the shards; a later read opens them again."""
        files: OrderedDict[int, int] = self.__dict__.get("_files", OrderedDict())
        while files:
            os.close(files.popitem()[1])

    def _select(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the index in use, and their labels as positions in `self.classes`."""
        index = self.index
        if repeated := [name for name in self.classes if self.classes.count(name) > 1]:
            raise UserError(f"classes must differ from each other, got {repeated[0]!r} twice; name each once")
        if unknown := [name for name in self.classes if name not in index.classes]:
            known = ", ".join(index.classes)
            raise UserError(f"no class {unknown[0]!r} in {index.root}; its classes: {known}")
        if not self.classes:
            raise UserError(f"classes must name at least one class, got none; its classes: {', '.join(index.classes)}")
        wrong = np.flatnonzero((index.label < 0) | (index.label >= len(index.classes)))
        if len(wrong):
            row = int(wrong[0])
            got = f"{index.label[row]} with {len(index.classes)} classes"
            raise UserError(f"the label of {self._where(row)} must be one of the index's classes, got {got}")
        place = np.full(len(index.classes), -1, np.int64)
        place[[index.classes.index(name) for name in self.classes]] = np.arange(len(self.classes))
        rows = np.flatnonzero(place[index.label] >= 0)
        return rows, place[index.label[rows]]

    def _where(self, row: int) -> str:
        """Shard and key."""
        name, key = self.index.shards[self.index.shard[row]].name, self._key(row)
        if not key:
            return f"image at byte {self.index.offset[row]} in shard {name} (its tar header is damaged too)"
        return f"image {key} in shard {name}"

    def _key(self, row: int) -> str:
        """From the tar header in front of the image; empty if that is damaged."""
        header = self._pread(row, int(self.index.offset[row]) - HEADER, HEADER)
        try:
            return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").name.rpartition(".")[0]
        except tarfile.HeaderError:
            return ""

    def _read(self, row: int) -> bytes:
        length = int(self.index.length[row])
        content = self._pread(row, int(self.index.offset[row]), length)
        if len(content) != length:
            got = f"{len(content)} of {length} bytes"
            raise UserError(f"{self._where(row)} is cut off: got {got}; copy the shard again or pack the data again")
        return content

    def _pread(self, row: int, offset: int, length: int) -> bytes:
        shard = int(self.index.shard[row])
        if shard not in self._files:
            path = self.index.root / self.index.shards[shard].name
            try:
                self._files[shard] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise UserError(f"cannot open shard {path}: {error.strerror}; restore it") from error
            if len(self._files) > OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(shard)
        return os.pread(self._files[shard], length, offset)


def _decode(content: bytes) -> Tensor:
    """RGB, uint8 [3, H, W]."""
    if simplejpeg is not None and content[:2] == b"\xff\xd8":
        pixels = simplejpeg.decode_jpeg(content, colorspace="RGB")
    else:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
