"""DeepSpeed's ZeRO, stages 1 and 2, one engine per network: every rank holds the optimiser state of a share.

Rajbhandari et al. 2020, arXiv:1910.02054. Gradients are averaged by DeepSpeed: at the end of a step (stage 1), or in
each backward, and only the share's is kept (stage 2). Networks are called as they are, never through the engine, whose
forward breaks R1's double backward.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.files import launch_file
from hmgan.train.engines.base import Engine, EngineRanks, Trained, spoiling

OWN = ("optimizer", "scheduler", "fp16", "bf16")  # what the experiment says, not DeepSpeed's file
MISSING = "engines zero1 and zero2 need DeepSpeed: pip install 'hmgan[deepspeed]'"
MOMENTS = ("exp_avg", "exp_avg_sq")
STAGE_3 = "stage 3 divides the weights, which R1's double backward needs whole: take stage 1 or 2, or engine = fsdp2"


class Zero(Engine):
    """One stage of ZeRO.

    Raises: UserError where DeepSpeed is not installed, or for a file that does not fit.
    """

    stage: int

    def __init__(self, ranks: EngineRanks, *, config: str | None = None) -> None:
        super().__init__(ranks)
        path = launch_file(f"deepspeed-zero{self.stage}.json") if config is None else Path(config)
        self._settings = read(path, self.stage)
        self._deepspeed = imported()

    @classmethod
    def check_installed(cls) -> None:
        if find_spec("deepspeed") is None:
            raise UserError(MISSING)

    def trained(self, network: nn.Module, optimizer: Optimizer, microbatches: int) -> ZeroNetwork:
        settings = {**self._settings, "gradient_accumulation_steps": microbatches}
        return ZeroNetwork(self.ranks, network, optimizer, self._deepspeed, settings)


@register("engine", "zero1")
class Zero1(Zero):
    """Optimiser state divided over the ranks.

    Args:
        config: a JSON file of DeepSpeed's settings in place of launch/deepspeed-zero1.json.
    """

    stage = 1
    of_generator = of_discriminator = frozenset({"moments", "master"})


@register("engine", "zero2")
class Zero2(Zero):
    """Optimiser state and averaged gradients divided over the ranks.

    Args:
        config: a JSON file of DeepSpeed's settings in place of launch/deepspeed-zero2.json.
    """

    stage = 2
    of_generator = of_discriminator = frozenset({"gradients", "moments", "master"})


class ZeroNetwork(Trained):
    """A network under its own DeepSpeed engine. Its state is gathered whole, and loaded into this rank's share."""

    def __init__(
        self, ranks: EngineRanks, network: nn.Module, optimizer: Optimizer, deepspeed: Any, settings: dict[str, Any]
    ) -> None:
        super().__init__(ranks, network, optimizer)
        # As they are before DeepSpeed puts its flat shares in their place.
        self._groups = [list(group["params"]) for group in optimizer.param_groups]
        self._engine, *_ = deepspeed.initialize(
            model=network, optimizer=optimizer, config=settings, dist_init_required=False
        )
        self._whole = deepspeed.utils.safe_get_full_optimizer_state
        self._put = deepspeed.utils.safe_set_full_optimizer_state
        for flat in self._shares():
            # As Adam begins; here, so that a checkpoint can be loaded before the first step.
            moments = {name: torch.zeros_like(flat) for name in MOMENTS}
            optimizer.state[flat] = {"step": torch.zeros((), device=flat.device), **moments}
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def backward(self, loss: Tensor, last: bool) -> None:
        self._engine.backward(spoiling(loss), scale_wrt_gas=False)
        if not last:
            self._engine.step()  # counts the microbatch, and steps at the last one only

    def step(self, loss: Tensor) -> Tensor:
        self._ranks.agree(torch.zeros_like(loss))
        self._engine.step()
        self._engine.optimizer.zero_grad(set_to_none=True)
        return torch.tensor([torch.nan if self._engine.optimizer.overflow else 0.0, 0.0])

    def state_dict(self) -> dict[str, Any]:
        step = next(iter(self._optimizer.state.values()))["step"]
        state = {
            i: {"step": step.cpu(), **{name: self._whole(parameter, name).cpu() for name in MOMENTS}}
            for i, parameter in enumerate(chain(*self._groups))
        }
        indices = iter(state)
        live = zip(self._groups, self._optimizer.param_groups, strict=True)
        return {"state": state, "param_groups": [{**has, "params": [next(indices) for _ in own]} for own, has in live]}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Called when the network has its weights already."""
        if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in self._groups]:
            raise ValueError("its optimiser has other groups of parameters")
        self._engine.optimizer.refresh_fp32_params()
        for index, parameter in enumerate(chain(*self._groups)):
            for name in MOMENTS:
                self._put(parameter, state["state"][index][name].to(parameter.device), name)
        for flat in self._shares():
            self._optimizer.state[flat]["step"].copy_(state["state"][0]["step"])

    def _shares(self) -> list[Tensor]:
        """This rank's share of each group, flat: what the optimiser steps now."""
        return [flat for group in self._optimizer.param_groups for flat in group["params"]]


def read(path: Path, stage: int) -> dict[str, Any]:
    """DeepSpeed's settings. Raises UserError for what is not there, or is not the file's to say."""
    where = f"compute.engine.config {path}"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        found = settings.get("zero_optimization", {}).get("stage")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{where} is not a readable DeepSpeed file ({error})") from None
    if found == 3:
        raise UserError(f"{where}: {STAGE_3}")
    if found != stage:
        raise UserError(f"{where} is of stage {found}, and the engine is zero{stage}; change one")
    for name in OWN:
        if name in settings:
            raise UserError(f"{where} says {name!r}, which the experiment says; leave it out")
    if settings.get("gradient_clipping", 1.0) != 0:
        raise UserError(f"{where} must say gradient_clipping 0.0: DeepSpeed's own default cuts gradients")
    return settings


def imported() -> Any:
    """DeepSpeed. Raises UserError where it is not installed."""
    try:
        import deepspeed
    except ImportError:
        raise UserError(MISSING) from None
    # Not compiled on first use: a run that is killed in the middle leaves a lock on which every later one waits.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    return deepspeed
