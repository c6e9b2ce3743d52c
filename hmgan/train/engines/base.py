"""What an engine is to the training loop: it lays networks and optimisers over the ranks, and steps them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hmgan.evaluation.sharding import Ranks

T = TypeVar("T", bound=nn.Module)


class EngineRanks(Ranks, Protocol):
    """What engines and losses need of `hmgan.train.distributed.runtime.Runtime`."""

    def average_gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Averages over the ranks; returns the norm of gradients and loss, and whether any was told to stop."""

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks, with exact gradients under averaging."""

    def agree(self, value: Tensor) -> float:
        """The sum of a scalar over the ranks, after which all of them know whether any was told to stop."""


Places = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # for whole tensors, on the meta device, empty ones


class Checkpointed(Protocol):
    """A named entry of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors, whatever this rank holds. Of an engine that divides: on every rank, in the same order."""

    def shares(self) -> dict[str, Any]:
        """The same, but of what is divided this rank's share alone, as DTensors."""

    def places(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Empty tensors that hold this rank's share of a state, whose whole tensors are given on the meta device.

        Without communication. An optimiser's are named `index.slot`.
        """

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        """Takes whole tensors, or `places` that have been filled."""


def empty(wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The places of what every rank holds whole."""
    return {name: torch.empty_like(x, device="cpu") for name, x in wholes.items()}


class Kept:
    """A module's state but for what is given, which older checkpoints hold too."""

    def __init__(self, module: nn.Module, given: Set[str]) -> None:
        self._module, self._given = module, given

    def state_dict(self) -> dict[str, Any]:
        return {name: x for name, x in self._module.state_dict().items() if name not in self._given}

    def shares(self) -> dict[str, Any]:
        return self.state_dict()

    def places(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return empty(wholes)

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        given = {name: x for name, x in self._module.state_dict().items() if name in self._given}
        return self._module.load_state_dict({**given, **state})


class Trained:
    """A network with its optimiser, whole on every rank. Its state is the optimiser's, laid out as torch's own."""

    def __init__(self, ranks: EngineRanks, network: nn.Module, optimizer: Optimizer) -> None:
        self._ranks, self._network, self._optimizer = ranks, network, optimizer

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradient of one microbatch's share of the step's loss; `last`: no other microbatch comes."""
        loss.backward()

    def step(self, loss: Tensor) -> Tensor:
        """Averages gradients over the ranks, steps, and clears them.

        Args:
            loss: this rank's mean over its microbatches, detached.

        Returns [2], on the device: a norm, not finite where the step was skipped, on all ranks, because a loss or a
            gradient of any is not; and whether any rank was told to stop, as far as they do not know it already.
        """
        verdict_2 = self._verdict(loss)
        self._apply(verdict_2)
        # Here, not before the next backward: the other network's phase has its activations in that memory.
        self._optimizer.zero_grad(set_to_none=True)
        return verdict_2

    def _verdict(self, loss: Tensor) -> Tensor:
        """Averages the gradients over the ranks."""
        return self._ranks.average_gradients(self._network, loss)

    def _apply(self, verdict_2: Tensor) -> None:
        """The optimiser's step, which the device itself leaves out where it is not to be taken."""
        if self._optimizer.defaults.get("fused"):
            self._optimizer.found_inf = (~verdict_2[0].isfinite()).float()  # type: ignore[attr-defined]
            self._optimizer.step()
        elif verdict_2[0].isfinite():  # another task's optimiser, which takes no such flag
            self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def shares(self) -> dict[str, Any]:
        return self.state_dict()

    def places(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return empty(wholes)

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._optimizer.load_state_dict(dict(state))


class Engine:
    """Built with the ranks; keyword-only arguments are its settings. Every rank makes the same calls. It replicates."""

    # What of a network is divided over the ranks: "weights", "gradients", "moments", "average" (the moving one), and
    # "master", a second copy of the weights that the engine keeps.
    of_generator: frozenset[str] = frozenset()
    of_discriminator: frozenset[str] = frozenset()
    takes_factors = False  # whether `average_gradients` makes the gradients, which may be products until then

    def __init__(self, ranks: EngineRanks) -> None:
        self.ranks = ranks

    @classmethod
    def check_installed(cls) -> None:
        """Raises UserError where a package that the engine needs is missing."""

    @property
    def divides(self) -> bool:
        """Whether a checkpoint has to be gathered, by all ranks."""
        return bool(self.of_generator)

    def trained(self, network: nn.Module, optimizer: Optimizer, microbatches: int) -> Trained:
        """The network under this engine; `microbatches`: backward passes in a step."""
        return Trained(self.ranks, network, optimizer)

    def check(self, task: Any) -> None:
        """Raises UserError for a `hmgan.train.tasks.base.Task` that this engine cannot train."""

    def divide(self, generator: Any, average: nn.Module) -> None:
        """Lays G and its moving average over the ranks, before it has an optimiser."""

    def kept(self, module: nn.Module, given: Set[str]) -> Checkpointed:
        """What checkpoints hold of a module, in whose state what is given stays as it is."""
        return Kept(module, given)

    def whole(self, generator: T) -> T:
        """G with its averaged weights, as any rank may use it alone. Every rank calls this."""
        return generator


def spoiling(loss: Tensor) -> Tensor:
    """A loss that is not finite makes its gradient so too, which is all that ranks decide by."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan).to(loss)
