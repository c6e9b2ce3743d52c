"""FSDP2 for G: every rank holds a share of its weights, their average and its optimiser. D is on every rank.

`torch.distributed.fsdp.fully_shard`: a network's parameters are whole from its forward to the end of it, and again for
its backward, which leaves each rank the averaged gradient of its share. Buffers are on every rank.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.train.engines.base import Engine, Kept, Ranks, Trained
from hmgan.train.engines.replicated import ReplicatedNetwork

T = TypeVar("T", bound=nn.Module)
ELSE = "take compute.engine = replicated, zero1 or zero2"


@register("engine", "fsdp2")
class FSDP2(Engine):
    """G's parameters, gradients, average and optimiser state divided over the ranks; D replicated.

    Args:
        unit: a layer of so many parameters is made whole by itself; all smaller ones of a network together.

    Raises: UserError if that is less than one.
    """

    of_generator = frozenset({"weights", "gradients", "moments", "average"})

    def __init__(self, ranks: Ranks, *, unit: int = 1_000_000) -> None:
        super().__init__(ranks)
        if unit < 1:
            raise UserError(f"compute.engine.unit counts parameters and must be at least 1, got {unit}")
        self._unit = unit
        self._shell: Any = None

    def check(self, task: Any) -> None:
        if held := task.outside():
            raise UserError(f"engine fsdp2 has G's weights whole only in its passes, and {held}; {ELSE}")
        if task.experiment.modulation is not None:
            describe_edits(task.generator)

    def divide(self, generator: Any, average: nn.Module) -> None:
        from hmgan.train.engines import shares

        self._shell = emptied(generator.with_trained(average))
        networks = dict.fromkeys([*called(generator.trained), generator.backbone, *called(average)])
        shares.shard(list(networks), self.ranks, self._unit)

    def trained(self, network: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> Trained:
        from hmgan.train.engines import shares

        if shares.is_divided(network):
            return shares.DividedNetwork(self.ranks, optimizer)
        return ReplicatedNetwork(self.ranks, network, optimizer)

    def kept(self, module: nn.Module) -> Kept:
        from hmgan.train.engines import shares

        return shares.Gathered(module)

    def whole(self, generator: T) -> T:
        """Its memory is that of one whole G, for as long as the caller holds it."""
        from hmgan.train.engines import shares

        filled = same_buffers(self._shell)
        theirs = dict(generator.named_parameters())
        for name, empty in filled.named_parameters():
            empty.data = shares.gathered(theirs[name].detach())
        return filled


def called(trained: nn.Module) -> list[nn.Module]:
    """The modules that are called: those of a dictionary of parts, or the one."""
    return list(trained.values()) if isinstance(trained, nn.ModuleDict) else [trained]


def emptied(generator: nn.Module) -> nn.Module:
    """The same generator without parameters' memory, to be filled."""
    empty = same_buffers(generator)
    for parameter in empty.parameters():
        parameter.data = parameter.data.new_empty(0)
    return empty


def same_buffers(generator: T) -> T:
    """A copy with parameters of its own and the same buffers."""
    return copy.deepcopy(generator, {id(buffer): buffer for buffer in generator.buffers()})


def describe_edits(generator: Any) -> None:
    """Registers what the modulation hands to the source with pytree: FSDP's hooks must see every tensor in it.

    Raises: UserError for a modulation whose edits hold something else than data classes, tensors and numbers.
    """
    from torch.export import register_dataclass
    from torch.utils._pytree import tree_leaves

    with torch.no_grad():
        edits = generator.edits(torch.zeros(1, dtype=torch.long, device=next(generator.parameters()).device))
    while unknown := {type(x) for x in tree_leaves(edits) if not isinstance(x, Tensor | int | float | None)}:
        for kind in unknown:
            if not dataclasses.is_dataclass(kind):
                what = f"engine fsdp2 cannot see into a {kind.__name__}, which this modulation's edits hold"
                raise UserError(f"{what}; make it a dataclass, or {ELSE}")
            register_dataclass(kind)
