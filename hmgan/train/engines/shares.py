"""Networks and optimisers of which each rank holds a share, gathered and shared out again. Takes a second to import."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hmgan.train.engines.base import Ranks, spoiling


def shard(networks: list[nn.Module], ranks: Ranks, unit: int) -> None:
    """Leaves this rank its share of their parameters; layers of `unit` parameters or more are units of their own."""
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for network in networks:
        for layer in reversed(list(network.modules())):  # the inner ones first
            own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
            if layer is not network and own >= unit:
                fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        fully_shard(network, mesh=mesh, reshard_after_forward=True)


def is_divided(network: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


class DividedNetwork:
    """A network whose optimiser holds shares. Its averaged gradients are there when its backward ends."""

    def __init__(self, ranks: Ranks, optimizer: torch.optim.Optimizer) -> None:
        self._ranks, self._optimizer = ranks, optimizer

    def backward(self, loss: Tensor, last: bool) -> None:
        spoiling(loss).backward()

    def step(self, loss: Tensor) -> bool:
        shares = [parameter.grad.to_local() for parameter in self._parameters() if parameter.grad is not None]
        squares = torch.stack([share.square().sum() for share in shares]).sum()
        spoilt = not math.isfinite(self._ranks.agree(squares))
        if not spoilt:
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return spoilt

    def state_dict(self) -> dict[str, Any]:
        state = self._optimizer.state_dict()
        whole = {i: {name: gathered(x).cpu() for name, x in slots.items()} for i, slots in state["state"].items()}
        return {**state, "state": whole}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        shares = {
            i: {name: share_of(x, parameter) for name, x in state["state"][i].items()}
            for i, parameter in enumerate(self._parameters())
            if i in state["state"]
        }
        self._optimizer.load_state_dict({**state, "state": shares})

    def _parameters(self) -> Iterator[Any]:
        return (parameter for group in self._optimizer.param_groups for parameter in group["params"])


class Gathered:
    """A module's state as whole tensors."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def state_dict(self) -> dict[str, Any]:
        return {name: gathered(x).cpu() for name, x in self._module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        own = self._module.state_dict()
        return self._module.load_state_dict({name: share_of(x, own.get(name)) for name, x in state.items()})


def gathered(x: Tensor) -> Tensor:
    """All of a tensor of which each rank holds a share."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def share_of(x: Tensor, like: Tensor | None) -> Tensor:
    """This rank's share of what every rank has read, without a word to the others."""
    if not isinstance(like, DTensor) or x.shape != like.shape:
        return x
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
