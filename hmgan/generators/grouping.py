"""A batch by its classes, and what a generator's passes within one training step share. B batch, R distinct classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmgan import host
from hmgan.layers.edits import Edits


@dataclass(frozen=True, eq=False)
class Grouping:
    """The samples sorted by class: every site then sees its classes as consecutive samples."""

    classes_R: Tensor  # ascending
    counts: tuple[int, ...]  # samples of each
    order_B: Tensor  # the sample at each sorted place
    back_B: Tensor  # the sorted place of each sample

    @classmethod
    def of(cls, labels_B: Tensor, device: torch.device) -> Grouping:
        """Of labels on the CPU, for tensors on the device."""
        classes_R, counts_R = labels_B.unique(return_counts=True)
        return cls(host.sent(classes_R, device), tuple(counts_R.tolist()), *sorting(labels_B, device))


def sorting(rows_B: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The stable order of numbers on the CPU, and its inverse, on the device."""
    order_B = rows_B.argsort(stable=True)
    return host.sent(order_B, device), host.sent(order_B.argsort(), device)


@dataclass
class Step:
    """One training step: the groupings of its labels, found before they left the host, and edits that phases share.

    Args:
        shares: whether the generator's weights stay whole and unchanged until its first pass with gradients.
    """

    shares: bool
    groupings: list[tuple[Tensor, Grouping]] = field(default_factory=list)
    edits: dict[tuple[int, int], Edits] = field(default_factory=dict)

    def sent(self, labels_B: Tensor, device: torch.device) -> Tensor:
        """Labels on the device, whose grouping is known from now on."""
        there_B = host.sent(labels_B, device)
        self.groupings.append((there_B, Grouping.of(labels_B, device)))
        return there_B


_step: Step | None = None


@contextmanager
def taking(step: Step) -> Iterator[None]:
    """Passes inside are those of the step."""
    global _step
    before, _step = _step, step
    try:
        yield
    finally:
        _step = before


def grouping_of(labels_B: Tensor) -> Grouping:
    """Known in the step, or else found now, for which labels on a GPU are read back."""
    known: Sequence[tuple[Tensor, Grouping]] = () if _step is None else _step.groupings
    found = next((grouping for labels, grouping in known if labels is labels_B), None)
    return found or Grouping.of(labels_B.cpu(), labels_B.device)


def shared_edits(owner: object, grouping: Grouping, make: Callable[[], Edits]) -> Edits:
    """Edits of a grouping: a pass without gradients leaves its own, with their graph, to the first one with gradients.

    Tables alone: kernels would lie beside D's activations, and cost less to make again.
    """
    if _step is None or not _step.shares:
        return make()
    key = id(owner), id(grouping)
    if torch.is_grad_enabled():  # whose backward takes the graph away
        return _step.edits.pop(key, None) or make()
    if key not in _step.edits:
        with torch.enable_grad():
            _step.edits[key] = make()
    return _step.edits[key]
