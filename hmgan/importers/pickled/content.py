"""A foreign file as data: recognised by its first bytes, its root value, and the meaning of the names that we know.

Meaning is given to a node only when something asks for it: the network that is wanted. A name that is not known is
refused then, by its name; elsewhere in the file it does no harm, because nothing is ever called.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hmgan.importers.pickled.archive import LOCAL, read_archive
from hmgan.importers.pickled.arrays import (
    DTYPE,
    ENCODE,
    NDARRAY,
    RECONSTRUCT,
    SCALAR,
    ArrayView,
    array_of,
    bytes_of,
    scalar_of,
)
from hmgan.importers.pickled.machine import Budget, Read, read_pickle
from hmgan.importers.pickled.nodes import Call, Global, Persistent, UnreadableError, described
from hmgan.importers.pickled.storages import (
    DTYPES,
    Storage,
    Storages,
    View,
    begins_old_form,
    in_archive,
    read_old_form,
    view_of,
)

TENSOR = {Global("torch._utils", name) for name in ("_rebuild_tensor_v2", "_rebuild_tensor")}
PARAMETER = {Global("torch._utils", name) for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")}
NESTED = Global("torch.storage", "_load_from_bytes")
ORDERED, EASY, SET = Global("collections", "OrderedDict"), Global("dnnlib.util", "EasyDict"), Global("builtins", "set")
PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
TFLIB = Global("dnnlib.tflib.network", "Network")
NAMESPACE = Global("argparse", "Namespace")
EMBEDDING = Global("torch.nn.modules.sparse", "Embedding")  # of StyleGAN-XL's mappings
KNOWN = {
    *(TENSOR | PARAMETER | RECONSTRUCT | SCALAR),
    *(NESTED, ORDERED, EASY, SET, PERSISTENT, TFLIB, NAMESPACE, EMBEDDING, DTYPE, NDARRAY, ENCODE),
    *(Global("torch", name) for name in DTYPES),
}
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Layer(NamedTuple):
    """A network, or a layer of one: the source text of its class, where the file has it, and its attributes."""

    source: str
    state: dict[Any, Any]


class Content:
    """What a file holds."""

    def __init__(self, read: Read, storages: Storages, budget: Budget) -> None:
        self.root, self.storages, self.budget = read.value, storages, budget
        self.unknown = [name for name in read.globals if name not in KNOWN]
        # By the identity of nodes, which live as long as the content.
        self._nested: dict[int, Storage] = {}
        self._arrays: dict[int, ArrayView] = {}

    def mapping(self, node: Any) -> dict[Any, Any] | None:
        """A dictionary of any kind that we know, or None."""
        if type(node) is dict:
            return node
        if not isinstance(node, Call):
            return None
        if node.function == ORDERED and node.args:
            return _of_pairs(node.args[0])
        if node.function in (ORDERED, EASY):
            return node.pairs
        return node.state if node.function == NAMESPACE and type(node.state) is dict else None

    def view(self, node: Any) -> View | ArrayView | None:
        """A tensor or an array, or None. Raises UnreadableError where it is not whole."""
        for _ in range(3):  # parameters are made of tensors
            if not isinstance(node, Call) or node.function not in PARAMETER or not node.args:
                break
            node = node.args[0]
        if not isinstance(node, Call):
            return None
        if node.function in RECONSTRUCT:
            if id(node) not in self._arrays:
                self._arrays[id(node)] = array_of(node, self.budget)
            return self._arrays[id(node)]
        if node.function not in TENSOR or len(node.args) < 4:
            return None
        storage, offset, shape, stride = node.args[:4]
        return view_of(self._storage(storage), offset, shape, stride)

    def _storage(self, node: Any) -> Storage:
        if isinstance(node, Persistent):
            return self.storages.get(node)
        if not isinstance(node, Call) or node.function != NESTED or len(node.args) != 1:
            raise UnreadableError(f"holds a tensor whose numbers are {described(node)}")
        if id(node) not in self._nested:
            self._nested[id(node)] = self._load(node)
        return self._nested[id(node)]

    def _load(self, node: Call) -> Storage:
        """What torch.storage._load_from_bytes would load."""
        read, storages = read_old_form(bytes_of(node.args[0], self.budget), self.budget)
        if not isinstance(read.value, Persistent):
            raise UnreadableError(f"nests {described(read.value)} where a storage should be")
        return storages.get(read.value)

    def number(self, node: Any) -> bool | int | float | None:
        """A plain number, NumPy's or an array of one; None for anything else."""
        if isinstance(node, Call) and node.function in SCALAR:
            return scalar_of(node, self.budget)
        numbers = self.numbers(node)
        return numbers[0] if len(numbers) == 1 else None

    def numbers(self, node: Any) -> list[bool | int | float]:
        """The numbers of a list or an array, or the one number; none for anything else."""
        if type(node) in (bool, int, float):
            return [node]
        if type(node) in (list, tuple):
            found = [self.number(item) if not isinstance(item, list | tuple) else None for item in node]
            return [value for value in found if value is not None] if None not in found else []
        if isinstance(node, Call) and node.function in SCALAR:
            return [scalar_of(node, self.budget)]
        view = self.view(node)
        return [] if view is None else [value.item() for value in view.tensor(self.budget).flatten()]

    def text(self, node: Any) -> str:
        """A short text, or nothing."""
        return node if type(node) is str else ""

    def layer(self, node: Any, path: str = "") -> Layer | None:
        """A network or layer of NVIDIA's, or of the one class of PyTorch's that its files hold; None for a value.

        Raises: UnreadableError for an object of any other class.
        """
        if not isinstance(node, Call) or self.mapping(node) is not None:
            return None
        if node.function == EMBEDDING and type(node.state) is dict:
            return Layer("", node.state)
        if node.function != PERSISTENT:
            if node.function in KNOWN:
                return None
            raise self.unknown_at(path, node)
        meta = self.mapping(node.args[0]) if len(node.args) == 1 else None
        state = None if meta is None else self.mapping(meta.get("state"))
        if meta is None or meta.get("type") != "class" or state is None:
            raise UnreadableError(f"holds {path or 'a network'} in an unknown form")
        return Layer(self.text(meta.get("module_src")), state)

    def unknown_at(self, path: str, node: Any) -> UnreadableError:
        """What to raise where a wanted part is made by a name that is not known."""
        problem = f"makes {path or 'its content'} by {described(node)}, which is not known, and nothing was run"
        return UnreadableError(problem, "save the networks' state_dict()s")


def _of_pairs(pairs: Any) -> dict[Any, Any] | None:
    """What OrderedDict makes of a list of pairs."""
    plain = type(pairs) is list and all(type(p) in (list, tuple) and len(p) == 2 for p in pairs)
    return OrderedDict(pairs) if plain and all(type(p[0]) in (str, int) for p in pairs) else None


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """The content of a file while it is open. Raises UnreadableError for a file of another kind, OSError as usual."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise UnreadableError("is empty")
        # Unmapped with the last view of it; closing it before would be an error.
        yield read_content(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def read_content(data: memoryview) -> Content:
    """The content of a file's bytes. Raises UnreadableError for a file of another kind."""
    budget = Budget(len(data))
    if data[:4] == LOCAL:
        entries = read_archive(data)
        if "data.pkl" not in entries:
            raise UnreadableError("is a zip, but not one that torch.save wrote: it has no data.pkl")
        return Content(read_pickle(entries["data.pkl"], budget), in_archive(entries), budget)
    if bytes(data[:2]) not in PICKLE:
        raise UnreadableError("is of another kind: no pickle and no zip of PyTorch's")
    read = read_pickle(data, budget)
    if begins_old_form(read.value):
        return Content(*read_old_form(data, budget), budget)
    return Content(read, Storages({}), budget)
