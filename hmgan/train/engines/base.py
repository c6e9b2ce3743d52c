"""What an engine is to the training loop: it lays networks and optimisers over the ranks, and steps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Ranks(Protocol):
    """What of `hmgan.train.runtime.Runtime` an engine needs: every collective of its own goes through it."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def average_gradients(self, network: nn.Module, loss: Tensor) -> float:
        """Averages over the ranks, and returns the norm of gradients and loss."""


class Kept(Protocol):
    """A part of a checkpoint. Both are called on every rank of an engine that divides, in the same order."""

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors, whatever this rank holds of them."""

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any: ...


class Trained(Kept, Protocol):
    """A network with its optimiser. Its state is the optimiser's, laid out as torch's own."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradient of one part's share of the step's loss; `last`: no other part comes."""

    def step(self, loss: Tensor) -> bool:
        """Averages gradients over the ranks, steps, and clears them.

        Args:
            loss: this rank's mean over its parts, detached.

        Returns whether the step was left out, on all ranks, because a loss or a gradient of any is not finite.
        """


class Engine(Protocol):
    """Built with the ranks; its keyword-only arguments are its settings."""

    def trained(self, network: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> Trained:
        """Args: parts: how many backward passes make a step."""
