"""Where the numbers of tensors lie: storages of torch.save's zips, and of its form before that, whole or nested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmgan.importers.pickled.machine import Budget, Read, read_pickle
from hmgan.importers.pickled.nodes import Global, Persistent, UnreadableError, described

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
HEADERS = 3  # pickles before the content: magic number, protocol, system
COUNT = 8  # bytes before each storage in the old form
MOST_DIMENSIONS = 8
LARGEST = 1 << 60
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage(NamedTuple):
    """Numbers of one type, one after the other, little-endian."""

    data: memoryview
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.data) // self.dtype.itemsize


class Reference(NamedTuple):
    """What a pickle says of a storage outside it."""

    key: str
    dtype: torch.dtype
    numbers: int


class View(NamedTuple):
    """A tensor: part of a storage. Nothing is allocated before `tensor` is called."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.storage.dtype

    def tensor(self, budget: Budget) -> Tensor:
        """A copy. Raises UnreadableError where the file's tensors are larger than the file."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        item = self.dtype.itemsize
        budget.materialise(max(math.prod(self.shape), last + 1) * item)
        span = bytearray(self.storage.data[self.offset * item : (self.offset + last + 1) * item])
        return torch.frombuffer(span, dtype=self.dtype).as_strided(self.shape, self.stride).contiguous()


def view_of(storage: Storage, offset: Any, shape: Any, stride: Any) -> View:
    """A tensor within its storage. Raises UnreadableError where a part of it is outside."""
    plain = type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) <= MOST_DIMENSIONS
    if not plain or not sound(shape) or not all(type(value) is int and value >= 0 for value in (offset, *stride)):
        raise UnreadableError("holds a tensor whose shape is none")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= len(storage):
        raise UnreadableError("holds a tensor that reaches beyond its storage")
    return View(storage, offset, shape, stride)


def sound(shape: tuple[Any, ...]) -> bool:
    """Whether a shape is one whose strides fit into 64 bits, even where it is empty."""
    return all(type(size) is int and size >= 0 for size in shape) and math.prod(size or 1 for size in shape) < LARGEST


def reference(node: Persistent) -> Reference:
    """What a persistent id says: ('storage', type, key, place, count[, None])."""
    key = node.key
    if (
        type(key) is not tuple
        or len(key) not in (5, 6)
        or key[0] != "storage"
        or (len(key) == 6 and key[5] is not None)
    ):
        raise UnreadableError("refers to something other than a storage")
    kind, name, count = key[1], key[2], key[4]
    if not isinstance(kind, Global) or kind.module not in ("torch", "torch.storage") or kind.name not in DTYPES:
        raise UnreadableError(f"holds numbers of an unknown kind, {described(kind)}")
    if type(name) is not str or type(count) is not int or count < 0:
        raise UnreadableError("refers to a storage without a name or a size")
    return Reference(name, DTYPES[kind.name], count)


class Storages:
    """The storages of one file, or of one nested form."""

    def __init__(self, data: Mapping[str, memoryview]) -> None:
        self.data = data

    def get(self, node: Persistent) -> Storage:
        """What a node refers to. Raises UnreadableError where it is not there whole."""
        name, dtype, count = reference(node)
        if name not in self.data:
            raise UnreadableError("refers to a storage that is not in the file")
        if len(self.data[name]) != count * dtype.itemsize:
            raise UnreadableError("holds a storage of another size than it says")
        return Storage(self.data[name], dtype)


def in_archive(entries: Mapping[str, memoryview]) -> Storages:
    """Those of a zip."""
    if bytes(entries.get("byteorder", memoryview(b"little"))[:16]) != b"little":
        raise UnreadableError("is of a big-endian machine")
    folder = "data/"
    return Storages({name.removeprefix(folder): data for name, data in entries.items() if name.startswith(folder)})


def begins_old_form(value: Any) -> bool:
    """Whether a file's first pickle is the magic number of torch.save's form before the zip."""
    return type(value) is int and value == MAGIC


def read_old_form(data: memoryview, budget: Budget) -> tuple[Read, Storages]:
    """Magic number, protocol, system, the content, the storages' keys, and the storages behind each other."""
    at = 0
    headers = []
    for _ in range(HEADERS):
        header = read_pickle(data, budget, at)
        headers.append(header.value)
        at = header.end
    if not begins_old_form(headers[0]) or headers[1] != PROTOCOL:
        raise UnreadableError("holds a tensor in an unknown form")
    content = read_pickle(data, budget, at)
    keys = read_pickle(data, budget, content.end)
    return content, Storages(_consecutive(data, keys.value, keys.end, content.persistent))


def _consecutive(data: memoryview, keys: Any, at: int, nodes: Sequence[Persistent]) -> dict[str, memoryview]:
    known = {found.key: found for found in map(reference, nodes)}
    storages: dict[str, memoryview] = {}
    if type(keys) is not list or not all(type(key) is str and key in known for key in keys):
        raise UnreadableError("lists storages that nothing refers to")
    for key in keys:
        count = int.from_bytes(data[at : at + COUNT], "little")
        start, end = at + COUNT, at + COUNT + count * known[key].dtype.itemsize
        if end > len(data) or start > len(data):
            raise UnreadableError("is cut short")
        storages[key], at = data[start:end], end
    return storages
