"""FSDP2 for G: every rank holds a share of its weights, their moving average and its optimiser. D is on every rank.

`torch.distributed.fsdp.fully_shard`: a network's parameters are whole during its forward, and again during its
backward, which leaves each rank the averaged gradient of its share. Buffers are on every rank. Over several machines a
mesh of replicas by shares gathers weights within a machine, and only shares' gradients travel between them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Set
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.export import register_dataclass
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.train.engines.base import Checkpointed, Engine, EngineRanks, Kept, Trained, spoiling
from hmgan.types import Count, Whole

T = TypeVar("T", bound=nn.Module)
ELSE = "take compute.engine = replicated, zero1 or zero2"


@register("engine", "fsdp2")
class FSDP2(Engine):
    """G's parameters, gradients, moving average and optimiser state divided over the ranks; D replicated.

    Args:
        unit: a layer of so many parameters is made whole by itself; all smaller ones of a network together.
        dp_replicate_size: groups of consecutive ranks that each hold a whole G, such as machines. Both sizes are named
            as in accelerate's ParallelismConfig.
        dp_shard_size: ranks in a group; 0: all that there are, over dp_replicate_size.

    Raises: UserError for sizes whose product is not the number of ranks.
    """

    of_generator = frozenset({"weights", "gradients", "moments", "average"})

    def __init__(
        self, ranks: EngineRanks, *, unit: Count = 1_000_000, dp_replicate_size: Count = 1, dp_shard_size: Whole = 0
    ) -> None:
        super().__init__(ranks)
        made = dp_replicate_size * (dp_shard_size or ranks.world // dp_replicate_size)
        if made != ranks.world > 1:  # one rank holds everything, whatever is said of more
            sizes = f"dp_replicate_size {dp_replicate_size} and dp_shard_size {dp_shard_size}"
            raise UserError(f"compute.engine has {sizes}, whose product must be the {ranks.world} ranks; change one")
        self._unit, self._replicas = unit, dp_replicate_size

    def check(self, task: Any) -> None:
        if task.experiment.compute.graphs:
            raise UserError(f"engine fsdp2 has no place of its own for weights, as compute.graphs needs; {ELSE}")
        if reader := task.reads_weights():
            raise UserError(f"engine fsdp2 has G's weights whole only in its passes, and {reader}; {ELSE}")
        scalars = [name for name, p in task.generator.named_parameters() if p.requires_grad and not p.dim()]
        if scalars:
            problem = f"engine fsdp2 divides no single numbers such as {scalars[0]}"
            raise UserError(f"{problem}; freeze them (train.unedited=false in a transfer), or {ELSE}")
        if task.experiment.modulation is not None:
            describe_edits(task.generator)

    def divide(self, generator: Any, average: nn.Module) -> None:
        self._shell = same_buffers(generator.with_trained(average))
        for parameter in self._shell.parameters():
            parameter.data = parameter.data.new_empty(0)
        # Single numbers cannot be divided; those that do not train stay on every rank.
        scalars = {parameter for parameter in generator.parameters() if not parameter.dim()}
        networks = dict.fromkeys([*called(generator.trained), generator.backbone, *called(average)])
        mesh, sites = self._mesh(), set(generator.backbone.sites().values())
        for network in networks:
            large = [layer for layer in network.modules() if own_numbers(layer) >= self._unit]
            # A small site within a large layer may be called after it, when the layer's weights are no longer whole.
            units = {*large, *(layer for one in large for layer in one.modules() if layer in sites)}
            for layer in reversed(list(network.modules())):  # the inner ones first
                if layer is network or layer in units:
                    fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=scalars)

    def _mesh(self) -> DeviceMesh:
        kind, world = self.ranks.device.type, self.ranks.world
        if self._replicas == 1:
            return init_device_mesh(kind, (world,))
        names = ("dp_replicate", "dp_shard")
        return init_device_mesh(kind, (self._replicas, world // self._replicas), mesh_dim_names=names)

    def trained(self, network: nn.Module, optimizer: Optimizer, microbatches: int) -> Trained:
        divided = any(isinstance(parameter, DTensor) for parameter in network.parameters())
        return (DividedNetwork if divided else Trained)(self.ranks, network, optimizer)

    def kept(self, module: nn.Module, given: Set[str]) -> Checkpointed:
        return Gathered(module, given)

    def whole(self, generator: T) -> T:
        """Its memory is that of one whole G, for as long as the caller holds it."""
        filled = same_buffers(self._shell)
        theirs = dict(generator.named_parameters())
        for name, empty in filled.named_parameters():
            empty.data = gathered(theirs[name].detach())
        return filled


class DividedNetwork(Trained):
    """A network whose optimiser holds shares. Its gradients are averaged by the end of a backward pass."""

    def backward(self, loss: Tensor, last: bool) -> None:
        spoiling(loss).backward()

    def _verdict(self, loss: Tensor) -> Tensor:
        grads = [parameter.grad.to_local() for parameter in self._parameters() if parameter.grad is not None]
        norm = self._ranks.agree(torch.stack([grad.square().sum() for grad in grads]).sum())
        return torch.tensor([norm, 0.0])

    def _apply(self, verdict_2: Tensor) -> None:
        if verdict_2[0].isfinite():  # of shares, the optimiser takes no flag on the device
            self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        state = self.shares()
        whole = {i: {name: gathered(x).cpu() for name, x in slots.items()} for i, slots in state["state"].items()}
        return {**state, "state": whole}

    def shares(self) -> dict[str, Any]:
        return super().state_dict()

    def places(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parameters = dict(enumerate(self._parameters()))
        return {name: place(x, parameters.get(int(name.split(".")[0]))) for name, x in wholes.items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        shares = {
            i: {name: share_of(x, parameter) for name, x in state["state"][i].items()}
            for i, parameter in enumerate(self._parameters())
            if i in state["state"]
        }
        super().load_state_dict({**state, "state": shares})

    def _parameters(self) -> Iterator[Any]:
        return (parameter for group in self._optimizer.param_groups for parameter in group["params"])


class Gathered(Kept):
    """The same as whole tensors."""

    def state_dict(self) -> dict[str, Any]:
        return {name: gathered(x).cpu() for name, x in self.shares().items()}

    def shares(self) -> dict[str, Any]:
        return super().state_dict()

    def places(self, wholes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = self._module.state_dict()
        return {name: place(x, own.get(name)) for name, x in wholes.items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        own = self._module.state_dict()
        return super().load_state_dict({name: share_of(x, own.get(name)) for name, x in state.items()})


def own_numbers(layer: nn.Module) -> int:
    """The numbers in a layer's own parameters."""
    return sum(parameter.numel() for parameter in layer.parameters(recurse=False))


def gathered(x: Tensor) -> Tensor:
    """The whole of a tensor of which each rank holds a share."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def share_of(x: Tensor, like: Tensor | None) -> Tensor:
    """This rank's share of what every rank has read, without communication; a share is one already."""
    if isinstance(x, DTensor) or not isinstance(like, DTensor) or x.shape != like.shape:
        return x
    return distribute_tensor(x.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def place(whole: Tensor, like: Tensor | None) -> Tensor:
    """An empty tensor for this rank's share of one that is divided as another, of which there may be none."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return torch.empty_like(whole, device="cpu")
    return torch.empty_like(like.detach(), dtype=whole.dtype)


def called(trained: nn.Module) -> list[nn.Module]:
    """The modules with a forward: those of a dictionary, or the one."""
    return list(trained.values()) if isinstance(trained, nn.ModuleDict) else [trained]


def same_buffers(generator: T) -> T:
    """A copy with parameters of its own and the same buffers."""
    return copy.deepcopy(generator, {id(buffer): buffer for buffer in generator.buffers()})


def describe_edits(generator: Any) -> None:
    """Registers what the modulation hands to the source with pytree: FSDP's hooks must see every tensor in it.

    Raises: UserError for a modulation whose edits hold something else than data classes, tensors and numbers.
    """
    with torch.no_grad():
        edits = generator.edits(torch.zeros(1, dtype=torch.long, device=next(generator.parameters()).device))
    while unknown := {type(x) for x in tree_leaves(edits) if not isinstance(x, Tensor | int | float | None)}:
        for kind in unknown:
            if not dataclasses.is_dataclass(kind):
                what = f"engine fsdp2 cannot see into a {kind.__name__}, which this modulation's edits hold"
                raise UserError(f"{what}; make it a dataclass, or {ELSE}")
            register_dataclass(kind)
