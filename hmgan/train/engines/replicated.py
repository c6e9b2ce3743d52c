"""Plain data parallelism: every rank holds everything, and gradients are averaged once per phase, in one flat tensor.

A wrapper per network would reduce in every backward, and R1's double backward is what wrappers get wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.train.engines.base import Engine, Ranks


@register("engine", "replicated")
class Replicated(Engine):
    """Every rank holds everything."""

    def trained(self, network: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> ReplicatedNetwork:
        return ReplicatedNetwork(self.ranks, network, optimizer)


class ReplicatedNetwork:
    """A network and its optimiser, whole on every rank."""

    def __init__(self, ranks: Ranks, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._ranks, self._network, self._optimizer = ranks, network, optimizer

    def backward(self, loss: Tensor, last: bool) -> None:
        loss.backward()

    def step(self, loss: Tensor) -> bool:
        spoilt = not math.isfinite(self._ranks.average_gradients(self._network, loss))
        if not spoilt:
            self._optimizer.step()
        # Here, not before the next backward: the other network's phase has its activations in that memory.
        self._optimizer.zero_grad(set_to_none=True)
        return spoilt

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._optimizer.load_state_dict(dict(state))
