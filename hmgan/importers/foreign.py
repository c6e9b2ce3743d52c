"""What every format makes of a file: networks by their tensors' names, and how each becomes a component of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.importers.import_report import LeftOut
from hmgan.importers.pickled.arrays import ArrayView
from hmgan.importers.pickled.content import Content
from hmgan.importers.pickled.nodes import UnreadableError, described
from hmgan.importers.pickled.storages import View

OTHER = "give the file whole and unchanged"
NO_DISCRIMINATOR = "no discriminator in the file; training will begin with a new one"


class Layout(NamedTuple):
    """How a file stores a tensor that we store as shape `ours`."""

    note: str
    theirs: Callable[[tuple[int, ...]], tuple[int, ...]]  # our shape -> the file's
    change: Callable[[Tensor], Tensor]  # the file's tensor -> ours


SAME = Layout("", lambda ours: ours, lambda tensor: tensor)


class Pair(NamedTuple):
    """One tensor of ours, the file's that it comes from, and what is done to it on the way."""

    ours: str
    theirs: str
    layout: Layout = SAME
    scale: float = 1.0
    add: float = 0.0

    def note(self) -> str:
        """What is done, for the report."""
        scaled = f"times {self.scale:g}" if self.scale != 1 else ""
        return ", ".join(filter(None, [self.layout.note, scaled, f"plus {self.add:g}" if self.add else ""]))

    def convert(self, tensor: Tensor) -> Tensor:
        """The file's tensor -> ours, in float32."""
        return (self.layout.change(tensor.float()) * self.scale + self.add).contiguous()


class ForeignNetwork(NamedTuple):
    """A network's tensors by the file's names. A failed look-up is a UserError that names the file and the tensor."""

    where: str  # the file, for errors
    label: str  # the key within the file, "" for a bare state dict
    tensors: Mapping[str, Tensor]

    def full_name(self, name: str) -> str:
        """With the network's key, where it has one."""
        return f"{self.label}/{name}" if self.label else name

    def refused(self, name: str, problem: str, advice: str = OTHER) -> UserError:
        """What to raise where a tensor should be something else."""
        return UserError(f"{self.where}: {self.full_name(name)} should {problem}; {advice}")

    def get(self, name: str) -> Tensor:
        """The tensor of that name."""
        if name not in self.tensors:
            raise self.refused(name, "be in the file, got nothing")
        if not self.tensors[name].numel():
            raise self.refused(name, f"hold numbers, got shape {tuple(self.tensors[name].shape)}")
        return self.tensors[name]

    def changed(self, pair: Pair) -> Tensor:
        """A tensor in our layout."""
        tensor = self.get(pair.theirs)
        try:
            return pair.layout.change(tensor)
        except (IndexError, RuntimeError):  # dimensions that the layout does not know
            raise self.refused(pair.theirs, f"have other dimensions, got shape {tuple(tensor.shape)}") from None

    def fitting(self, pair: Pair, ours: tuple[int, ...]) -> Tensor:
        """A tensor of that shape, finite, as ours."""
        tensor, wanted = self.get(pair.theirs), pair.layout.theirs(ours)
        if tuple(tensor.shape) != wanted:
            raise self.refused(pair.theirs, f"be {wanted}, got {tuple(tensor.shape)}")
        if not bool(tensor.isfinite().all()):
            raise self.refused(pair.theirs, "be finite, got infinity or NaN", "give an earlier checkpoint")
        return pair.convert(tensor)

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor, which must have that many dimensions."""
        shape = tuple(self.get(name).shape)
        if len(shape) != dims or min(shape) < 1:
            raise self.refused(name, f"have {dims} dimensions, got shape {shape}")
        return shape

    def indices(self, pattern: str) -> list[int]:
        """The numbers that the pattern's one group takes among the names, sorted."""
        found = (re.fullmatch(pattern, name) for name in self.tensors)
        return sorted({int(match[1]) for match in found if match})


class New(NamedTuple):
    """A tensor of ours that the file lacks: how it is made from the rest of the network, and what to say of it."""

    make: Callable[[Any], Tensor]
    note: str


@dataclass(frozen=True)
class NetworkPlan:
    """How one network of a file becomes a component of ours."""

    network: str  # "generator" or "discriminator"
    theirs: ForeignNetwork
    options: dict[str, Any]
    pairs: list[Pair]
    reason: Callable[[str], str]  # why a tensor that no pair names is left out
    component: str = "stylegan1"
    new: dict[str, New] = field(default_factory=dict)
    head: frozenset[str] = frozenset()  # tensors that a discriminator makes its own head of


class Conditional(NamedTuple):
    """What makes a source conditional: class net and modulation, and where their tensors come from."""

    class_net: Choice
    modulation: Choice
    classes: int
    pairs: list[tuple[ForeignNetwork, Pair]]  # ours under class_net. and modulation.


class Checkpoint(NamedTuple):
    """What is taken from a file, and what is not."""

    plans: list[NetworkPlan]
    size: str  # of images, for the report
    weights: str  # the generator's key in the file
    notes: tuple[str, ...]
    unused: list[LeftOut]
    conditional: Conditional | None = None  # of a generator that has classes


class File(NamedTuple):
    """A file that is being read."""

    where: str
    content: Content

    def network(self, label: str, views: Mapping[str, View | ArrayView | Any]) -> ForeignNetwork:
        """A network's tensors, copied. Raises UserError for one that is no plain floating-point tensor."""
        empty = ForeignNetwork(self.where, label, {})
        tensors = {}
        for name, view in views.items():
            if not isinstance(view, View | ArrayView) or not view.dtype.is_floating_point:
                dense = isinstance(view, View | ArrayView)
                got = f"{view.dtype} {view.shape}" if dense else described(view)
                raise empty.refused(name, f"be a floating-point tensor, got {got}, and nothing was run")
            try:
                tensors[name] = view.tensor(self.content.budget)
            except UnreadableError as error:
                raise UserError(f"{self.where}: {empty.full_name(name)} {error}; {error.advice}") from None
        return empty._replace(tensors=tensors)

    def views(self, label: str, state: Mapping[Any, Any]) -> dict[str, Any]:
        """A state dict's tensors where they lie, without the prefix of DataParallel; what is no tensor, as it is."""
        views = {}
        for key, node in state.items():
            name = str(key).removeprefix("module.")
            try:
                view = self.content.view(node)
            except UnreadableError as error:
                full = ForeignNetwork(self.where, label, {}).full_name(name)
                raise UserError(f"{self.where}: {full} {error}; {error.advice}") from None
            views[name] = node if view is None else view
        return views

    def left_out(self, label: str, node: Any, reason: str) -> list[LeftOut]:
        """A part that is not used: each tensor of a state dict, or the part as one."""
        state = self.content.mapping(node)
        if state is not None and any(str(key).count(".") for key in state):
            return [LeftOut(label, f"{label}/{str(key).removeprefix('module.')}", reason) for key in state]
        return [LeftOut(label, label, reason)]


def code_notes(label: str, sources: Iterable[str]) -> list[str]:
    """What a network brings as its code, by digest: it is not run, so that what it computes is not known from it."""
    digests = [sha256(text.encode(errors="surrogatepass")).hexdigest() for text in dict.fromkeys(sources) if text]
    return [f"code of the file is unknown to us, read by its shapes: {label}, sha256 {digest}" for digest in digests]


def check_resolution(where: str, wanted: int | None, got: int) -> None:
    """Raises UserError where another resolution is wanted than the one that a file draws."""
    if wanted not in (None, got):
        raise UserError(f"{where} draws {got} px only; leave --resolution out")


def no_reason(theirs: ForeignNetwork, name: str) -> NoReturn:
    """Raises UserError: a tensor that the architecture has no place for would change what it computes."""
    raise theirs.refused(name, "have a place in this architecture, got none", "this variant is not known")
