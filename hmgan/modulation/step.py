"""What the passes of one training step share: groupings of its labels, edits, and factors of gradients. B batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmgan import host
from hmgan.layers.edits import Edits
from hmgan.modulation.factors import Factors
from hmgan.modulation.grouping import Grouping


@dataclass
class Step:
    """One training step: the groupings of its labels, found before they left the host, and edits that phases share.

    Args:
        shares: whether the generator's weights stay whole and unchanged until its first pass with gradients.
        factors: where backward passes leave their heads' gradients.
        by_count: whether classes are in the order of their counts, so that equal batches but for names look the same.
    """

    shares: bool = False
    factors: Factors = field(default_factory=Factors)
    by_count: bool = False
    groupings: list[tuple[Tensor, Grouping]] = field(default_factory=list)
    edits: dict[tuple[int, int], Edits] = field(default_factory=dict)

    def sent(self, labels_B: Tensor, device: torch.device) -> Tensor:
        """Labels on the device, whose grouping is known from now on."""
        there_B = host.sent(labels_B, device)
        self.groupings.append((there_B, Grouping.of(labels_B, device, self.by_count)))
        return there_B

    def grouping_of(self, labels_B: Tensor) -> Grouping:
        """Known in the step, or else found now, for which labels on a GPU are read back."""
        found = next((grouping for labels, grouping in self.groupings if labels is labels_B), None)
        return found or Grouping.of(labels_B.cpu(), labels_B.device)

    def shared_edits(self, owner: object, grouping: Grouping, make: Callable[[], Edits]) -> Edits:
        """Edits of a grouping: a pass without gradients leaves its own, with their graph, to the first one with them.

        Tables alone: kernels would lie beside D's activations, and cost less to make again.
        """
        if not self.shares:
            return make()
        key = id(owner), id(grouping)
        if torch.is_grad_enabled():  # whose backward takes the graph away
            return self.edits.pop(key, None) or make()
        if key not in self.edits:
            with torch.enable_grad():
                self.edits[key] = make()
        return self.edits[key]


_step = Step()


@contextmanager
def taking(step: Step) -> Iterator[None]:
    """Passes inside are those of the step."""
    global _step
    before, _step = _step, step
    try:
        yield
    finally:
        _step = before


def current() -> Step:
    """The step that is being taken; outside of one, passes share nothing."""
    return _step
