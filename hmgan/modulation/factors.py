"""Gradients of heads as two factors, so that ranks and microbatches add up the smaller one and multiply once.

A head's gradient is sum_n t_n v_n^T over the classes n, and a class's vector v is the same in every share of a batch:
the t are added up. Exact, and smaller for fewer classes than numbers in v. N classes, R rows (distinct classes), E
class-vector width, O a table's entries, K blocks of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sink = Callable[[Tensor], None]  # takes a table's gradient [K, R, O/K]


class HeadFactor:
    """Of one head's weight [O, E]: t, and what multiplies v in front of the head."""

    def __init__(self, weight: nn.Parameter, classes: int, blocks: int, gain: float) -> None:
        self.shape, self.gain = (blocks, classes, len(weight) // blocks), gain
        self._weight = weight
        self._t_KNO: Tensor | None = None

    def add(self, classes_R: Tensor, grad_KRO: Tensor) -> None:
        """A backward pass's share."""
        self._t_KNO = self.t().index_add_(1, classes_R, grad_KRO)

    def t(self) -> Tensor:
        """[K, N, O/K], zero before the first backward pass."""
        return self._weight.new_zeros(self.shape) if self._t_KNO is None else self._t_KNO

    def gradient(self, t_KNO: Tensor, v_NE: Tensor) -> Tensor:
        """[O, E]."""
        return (t_KNO.mT @ (v_NE * self.gain)).flatten(0, 1)


class Factors:
    """Those of one step of N classes; of none, gradients are as ever."""

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes
        self._of_weights: dict[nn.Parameter, HeadFactor] = {}
        self._vectors_NE: Tensor | None = None
        self._under_way: tuple[Tensor, Tensor] | None = None  # class vectors that heads are given, and whose they are

    def taken(self, parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, HeadFactor]:
        """Those of some parameters, once; where another pass has left a gradient, it takes the factor in."""
        found = {p: self._of_weights.pop(p) for p in parameters if p in self._of_weights}
        for parameter in [p for p in found if p.grad is not None]:
            factor = found.pop(parameter)
            assert parameter.grad is not None
            parameter.grad += factor.gradient(factor.t(), class_vectors(self.vectors()))
        return found

    def vectors(self) -> Tensor:
        """[N, E + 1]: each class's v, and 1; zero for classes that the step has not met here."""
        assert self._vectors_NE is not None
        return self._vectors_NE

    @contextmanager
    def heads_of(self, v_RE: Tensor, classes_R: Tensor) -> Iterator[None]:
        """Heads inside that are given this very tensor can have their gradients as factors, where those are fewer."""
        before, self._under_way = self._under_way, None
        if torch.is_grad_enabled() and 0 < self.classes < v_RE.shape[1]:
            self._met(v_RE, classes_R)
            self._under_way = v_RE, classes_R
        try:
            yield
        finally:
            self._under_way = before

    def sink_of(self, weight: nn.Parameter, blocks: int, gain: float, v_RE: Tensor) -> Sink | None:
        """Where the gradient of a head's table goes in place of its weight's; None: the weight's is made at once.

        A modulation that puts something between the class vector and its heads has the latter. A factor is there from
        the forward pass on: ranks agree on which there are, whatever a backward pass reaches.
        """
        if self._under_way is None or v_RE is not self._under_way[0] or not weight.requires_grad:
            return None
        factor = self._of_weights.setdefault(weight, HeadFactor(weight, self.classes, blocks, gain))
        return partial(factor.add, self._under_way[1])

    def _met(self, v_RE: Tensor, classes_R: Tensor) -> None:
        if self._vectors_NE is None:
            self._vectors_NE = v_RE.new_zeros(self.classes, v_RE.shape[1] + 1)
        self._vectors_NE.index_copy_(0, classes_R, F.pad(v_RE.detach(), (0, 1), value=1.0))


def class_vectors(sum_NE: Tensor) -> Tensor:
    """Vectors [N, E] from the sum over ranks of `Factors.vectors`."""
    ranks_N1 = sum_NE[:, -1:]
    return sum_NE[:, :-1] / ranks_N1.where(ranks_N1 > 0, 1.0)
