"""What an engine is to the training loop: it lays networks and optimisers over the ranks, and steps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T", bound=nn.Module)


class Ranks(Protocol):
    """What of `hmgan.train.distributed.runtime.Runtime` an engine needs."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def average_gradients(self, network: nn.Module, loss: Tensor) -> float:
        """Averages over the ranks, and returns the norm of gradients and loss."""

    def agree(self, value: Tensor) -> float:
        """The sum over the ranks of a scalar; whether any of them was told to stop is known to all after it."""


class Kept(Protocol):
    """A part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors, whatever this rank holds. Of an engine that divides: on every rank, in the same order."""

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


class Engine:
    """Built with the ranks; its keyword-only arguments are its settings. Every rank does the same with it."""

    # Of a network, what is divided over the ranks: "weights", "gradients", "moments", "average", and "master": a second
    # copy of the weights that the engine keeps.
    of_generator: frozenset[str] = frozenset()
    of_discriminator: frozenset[str] = frozenset()

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    @property
    def divides(self) -> bool:
        """Whether a checkpoint has to be gathered, by all ranks."""
        return bool(self.of_generator)

    def trained(self, network: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> Trained:
        """Args: parts: how many backward passes make a step."""
        raise NotImplementedError

    def check(self, task: Any) -> None:
        """Raises UserError for a `hmgan.train.tasks.base.Task` that this engine cannot train."""

    def divide(self, generator: Any, average: nn.Module) -> None:
        """Lays G and its moving average over the ranks, before it has an optimiser."""

    def kept(self, module: nn.Module) -> Kept:
        """What checkpoints hold of a module."""
        return module

    def whole(self, generator: T) -> T:
        """G with its averaged weights, as any rank may use it alone. Every rank calls this."""
        return generator


def spoiling(loss: Tensor) -> Tensor:
    """A loss that is not finite spoils its gradient too, by which alone all ranks decide."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan).to(loss)
