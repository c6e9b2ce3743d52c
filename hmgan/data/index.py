"""The index of a packed set: where every image lies, and its label. N samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hmgan.data.decode import BACKGROUND
from hmgan.data.store.folders import File, Folder

FORMAT: Literal["hmgan-shards/1"] = "hmgan-shards/1"
DTYPES = {"shard": np.int32, "offset": np.int64, "length": np.int32, "label": np.int32}
# What older indexes have not, by the array that tells.
OPTIONAL = {"key_end": {"key": np.uint8, "key_end": np.int64}, "crc32": {"crc32": np.uint32}}
CHUNK = 1 << 20  # samples checked at a time: an index may be larger than memory


@dataclass(frozen=True, kw_only=True)
class Shard(File):
    """One tar file."""

    samples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """A packed data set.

    Shapes: shard, offset, length, label, key_end and crc32 are [N], in the order of the shards; they may be views of a
    file on the disk. offset, length and crc32 are of the image's bytes in its tar; key holds the keys end to end,
    key_end their ends. Those that an older index has not are empty.
    """

    folder: Folder
    resolution: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # samples of each class
    skipped: int  # unreadable images that the packing left out
    background: str | None = BACKGROUND  # of transparent pixels; None: of an earlier version, which had none
    shards: tuple[Shard, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    label: NDArray[np.int32]
    key: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    key_end: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    crc32: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))

    def __len__(self) -> int:
        return len(self.label)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in DTYPES}

    @cached_property
    def digest(self) -> str:
        """The sha256 of the content, without names of files and samples: a renamed copy is the same data set.

        Without the crc32s too, which the sha256 of the shards imply.
        """
        head = [FORMAT, self.resolution, self.classes, [(s.bytes, s.sha256, s.samples) for s in self.shards]]
        head += [] if self.background in (None, BACKGROUND) else [self.background]  # older sets keep their digests
        digest = hashlib.sha256(json.dumps(head).encode())
        for name, array in self.arrays().items():
            digest.update(name.encode())
            for chunk in chunks(array):
                digest.update(chunk.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def new_index(
    *,
    folder: Folder,
    resolution: int,
    classes: Sequence[str],
    shards: Sequence[Shard],
    rows: Sequence[Sequence[int]],
    keys: Iterable[str],
    skipped: int = 0,
    background: str = BACKGROUND,
) -> Index:
    """The index of samples in the order of the shards; `rows` has offset, length, label and crc32 of each."""
    rows_N4 = np.array(rows, np.int64).reshape(-1, 4)
    encoded = [key.encode() for key in keys]
    return Index(
        folder=folder,
        resolution=resolution,
        classes=tuple(classes),
        counts=tuple(np.bincount(rows_N4[:, 2], minlength=len(classes)).tolist()),
        skipped=skipped,
        background=background,
        shards=tuple(replace(shard, by_parts=True) for shard in shards),
        shard=np.repeat(np.arange(len(shards), dtype=np.int32), [shard.samples for shard in shards]),
        offset=rows_N4[:, 0],
        length=rows_N4[:, 1].astype(np.int32),
        label=rows_N4[:, 2].astype(np.int32),
        crc32=rows_N4[:, 3].astype(np.uint32),
        key=np.frombuffer(b"".join(encoded), np.uint8),
        key_end=np.cumsum([len(key) for key in encoded], dtype=np.int64),
    )


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts of CHUNK rows."""
    return (array[first : first + CHUNK] for first in range(0, len(array), CHUNK))
