"""NumPy's arrays and numbers as pickles describe them: by the string of their dtype, never by objects."""

from __future__ import annotations

import codecs
import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hmgan.importers.pickled.machine import SHORT, Budget
from hmgan.importers.pickled.nodes import Blob, Call, Global, UnreadableError, described
from hmgan.importers.pickled.storages import MOST_DIMENSIONS, sound

MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since
RECONSTRUCT, SCALAR = ({Global(module, name) for module in MODULES} for name in ("_reconstruct", "scalar"))
NDARRAY, DTYPE, ENCODE = Global("numpy", "ndarray"), Global("numpy", "dtype"), Global("_codecs", "encode")
KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
ORDERS: tuple[Literal["<", ">", "=", "|"], ...] = ("<", ">", "=", "|")
CHUNK = 1 << 16


class ArrayView(NamedTuple):
    """An array where it lies in the file. Nothing is allocated before `tensor` is called."""

    data: memoryview
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers, as torch names it."""
        return torch.from_numpy(np.empty(0, self.kind.newbyteorder("="))).dtype

    def tensor(self, budget: Budget) -> Tensor:
        """A copy. Raises UnreadableError where the file's tensors are larger than the file."""
        budget.materialise(len(self.data))
        flat = np.frombuffer(self.data, self.kind).astype(self.kind.newbyteorder("="))
        return torch.from_numpy(flat.reshape(self.shape, order="F" if self.fortran else "C")).contiguous()


def dtype_of(node: Any) -> np.dtype[Any]:
    """The dtype that numpy.dtype would have made. Raises UnreadableError for any but plain numbers."""
    if not isinstance(node, Call) or node.function != DTYPE or not node.args or type(node.args[0]) is not str:
        raise UnreadableError(f"holds an array of an unknown kind, {described(node)}")
    state = node.state if type(node.state) is tuple else ()
    order = next((one for one in ORDERS if one == (state[1] if len(state) > 1 else "=")), None)
    if node.args[0] not in KINDS or order is None or any(field is not None for field in state[2:5]):
        raise UnreadableError(f"holds an array of dtype {node.args[0][:20]!r}, which is no plain number")
    return np.dtype(node.args[0]).newbyteorder(order)


def array_of(node: Call, budget: Budget) -> ArrayView:
    """An array that numpy's _reconstruct would have made. Raises UnreadableError where it is not whole."""
    state = node.state
    if not node.args or node.args[0] != NDARRAY or type(state) is not tuple or len(state) != 5:
        raise UnreadableError("holds an array without its numbers")
    _, shape, dtype, fortran, data = state
    kind, content = dtype_of(dtype), bytes_of(data, budget)
    plain = type(shape) is tuple and len(shape) <= MOST_DIMENSIONS and type(fortran) is bool
    if not plain or not sound(shape):
        raise UnreadableError("holds an array whose shape is none")
    if math.prod(shape) * kind.itemsize != len(content):
        raise UnreadableError("holds an array of another size than it says")
    return ArrayView(content, kind, shape, fortran)


def scalar_of(node: Call, budget: Budget) -> bool | int | float:
    """A number that numpy's scalar would have made."""
    if len(node.args) != 2:
        raise UnreadableError("holds a number without its bytes")
    kind, content = dtype_of(node.args[0]), bytes_of(node.args[1], budget)
    if len(content) != kind.itemsize:
        raise UnreadableError("holds a number of another size than it says")
    value: bool | int | float = np.frombuffer(content, kind)[0].item()
    return value


def bytes_of(node: Any, budget: Budget) -> memoryview:
    """Bytes, which protocol 2 writes as a text and its encoding. Raises UnreadableError for anything else."""
    if isinstance(node, Call) and node.function == ENCODE and len(node.args) == 2 and node.args[1] == "latin1":
        return _latin1(node.args[0], budget)
    if not isinstance(node, Blob) or node.text:
        raise UnreadableError(f"holds {described(node)} where bytes should be")
    return node.data


def _latin1(text: Any, budget: Budget) -> memoryview:
    """In chunks: one wide character would make four bytes of every one."""
    data = text.encode() if type(text) is str else text.data if isinstance(text, Blob) and text.text else b""
    if len(data) > SHORT:
        budget.decode(len(data))
    decoder, encoded = codecs.getincrementaldecoder("utf-8")(), bytearray()
    try:
        for start in range(0, len(data), CHUNK):
            part = bytes(data[start : start + CHUNK])
            encoded += decoder.decode(part, start + CHUNK >= len(data)).encode("latin1")
    except UnicodeError:
        raise UnreadableError("holds bytes written as a text that is none") from None
    return memoryview(encoded)
