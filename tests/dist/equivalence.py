"""Three steps of training in float64, with every gradient kept; `main` is one rank of several."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hmgan.train import draws
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare
from hmgan.train.tasks.gan import Gan
from hmgan.train.trainer import Trainer

STEPS = 3
# Of Adam, in float64. At a millionth of the largest gradient, as by default, it would make of an entry's last bits a
# hundred thousand times as much.
EPSILON = 1e-4
COMMON = ("task.mixing=0.9", "loader.mirror=true", "task.freeze=[]", "r1.every=2", "r1.gamma=3.0")
# A weight far above the default, so that a wrong contrastive gradient cannot hide in the rounding of the others.
STRONG = "contrastive.weight=1.0"
FINE_TUNING = (*COMMON, "class_net=none", "modulation=none")
STRATA = ("loader.stratified=true", "loader.group=2")
SCENARIOS = {
    "r1": (*COMMON,),
    "barlow-twins": (*COMMON, "contrastive=barlow-twins", STRONG),
    "dcl": (*COMMON, "contrastive=dcl", STRONG),
    "merged-ahead": (*COMMON, "contrastive=barlow-twins", STRONG, "compute.merge=true", "compute.ahead=true"),
    "adain": (*COMMON, "modulation=adain"),
    "projection": (*COMMON, "disc_head=projection"),
    "hinge-lecam": (*COMMON, "adversarial=hinge", "regularizer.name=lecam", "regularizer.weight=10.0"),
    "dual-contrastive": (*COMMON, "adversarial=dual-contrastive"),
    "diffaugment": (*COMMON, "augment=diffaugment"),
    # p moves after every step, by 0.4.
    "ada": (*COMMON, "augment.name=ada", "augment.start=0.5", "augment.every=1", "augment.kimg=0.02"),
    "auxiliary-classifier": (*COMMON, "disc_head=auxiliary-classifier"),
    "adc-within-class": (*COMMON, "disc_head=adc", "task.within_class=true", *STRATA),
    "transitional": (*COMMON, "disc_head=transitional", "disc_head.span=0.02"),
    "mode-seeking": (*COMMON, "gen_penalty=mode-seeking", "gen_penalty.weight=1.0"),
    "noisy-twins": (*COMMON, "gen_penalty=noisy-twins", "gen_penalty.weight=0.1"),
    "ewc": (*FINE_TUNING, "gen_penalty=ewc", "gen_penalty.samples=8", "gen_penalty.weight=100.0"),
    # The first step is of whole images, the others are of patches.
    "cdc": (*FINE_TUNING, "gen_penalty=cdc", "gen_penalty.weight=1000.0", "players=anchors", "players.patch_blocks=1"),
    # Two of the three steps are of the first stage.
    "mining": (*FINE_TUNING, "players=mining", "players.kimg=0.016"),
    # By class, so that the ranks' shares of a class differ; the rates drop after the second step.
    "reconstruction": (
        *COMMON,
        "loader.mirror=false",
        "class_net=one-hot",
        "modulation=scale-shift",
        "feature_net=squeezenet",
        "train.labels=true",
        "task=reconstruction",
        "task.drop_kimg=0.016",
        # Weights at which a wrong gradient of a term shows.
        "task.perceptual_weight=1.0",
        "modulation.pull=1.0",
    ),
}


class Recording(Runtime):
    """The real runtime; keeps what every phase's gradients were."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.tensors: dict[str, Tensor] = {}
        self.phase = 0

    def average_gradients(self, network: nn.Module, loss: Tensor) -> float:
        norm = super().average_gradients(network, loss)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and parameter.grad is not None:
                self.tensors[f"phase{self.phase}/{name}"] = parameter.grad.clone()
        self.phase += 1
        return norm


@contextmanager
def float64() -> Iterator[None]:
    """Networks, latents, images and views in float64."""
    before, as_images = torch.get_default_dtype(), draws.as_images
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(draws, "as_images", lambda images: as_images(images).double()):
            yield
    finally:
        torch.set_default_dtype(before)


class Case(NamedTuple):
    """One training."""

    scenario: str
    batch: int = 8
    accumulate: int = 1
    engine: str = "replicated"
    dtype: str = "float64"
    replicas: int = 1  # of what fsdp2 divides

    @property
    def name(self) -> str:
        return "-".join(map(str, self))

    @property
    def of_any_engine(self) -> bool:
        """Whether gradients are taken from the optimisers."""
        return self.engine != "replicated" or self.dtype == "float32"

    def overrides(self) -> list[str]:
        size = (f"train.batch={self.batch}", f"train.kimg={STEPS * self.batch / 1000}")
        # Even the smallest layers become units of their own.
        units = ["compute.engine.unit=50", f"compute.engine.dp_replicate_size={self.replicas}"]
        spread = [f"compute.engine={self.engine}", *(units if self.engine == "fsdp2" else [])]
        return [*SCENARIOS[self.scenario], *size, *spread, f"train.accumulate={self.accumulate}"]


# What two ranks do in the fast suite: everything with 4 samples a rank, and what compares samples in two parts as well.
IN_PARTS = ("r1", "barlow-twins", "dcl", "hinge-lecam", "ada", "reconstruction", "mode-seeking", "noisy-twins")
REPLICATED = [*(Case(name) for name in SCENARIOS), *(Case(name, 16, 2) for name in IN_PARTS)]
# DeepSpeed knows no float64.
IN_FLOAT32 = Case("barlow-twins", 16, 2, "replicated", "float32")
ZERO = ("zero1", "zero2") if find_spec("deepspeed") else ()
ENGINES = [IN_FLOAT32, *(IN_FLOAT32._replace(engine=name) for name in ZERO), Case("barlow-twins", 16, 2, "fsdp2")]
TWO_RANKS = [*REPLICATED, *ENGINES]


class Held(NamedTuple):
    """Bytes on this rank."""

    weights: int  # of G
    moments: int  # of G's optimiser
    disc_moments: int


def held(trainer: Trainer) -> Held:
    def size(tensors: Iterable[Tensor]) -> int:
        return sum((x.to_local() if isinstance(x, DTensor) else x).nbytes for x in tensors)

    def moments(optimizer: torch.optim.Optimizer) -> int:
        return size(x for slots in optimizer.state.values() for x in slots.values() if x.dim())

    task = trainer.task
    disc_moments = moments(task.disc_optimizer) if isinstance(task, Gan) else 0
    return Held(size(task.generator.parameters()), moments(task.gen_optimizer), disc_moments)


def adam_groups(trainer: Trainer) -> list[dict[str, object]]:
    task = trainer.task
    optimizers = [task.gen_optimizer, *([task.disc_optimizer] if isinstance(task, Gan) else [])]
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def keep_gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Adam's first moments after each phase, in the optimiser's order: with beta1 = 0 they are its gradients."""
    kept: dict[str, Tensor] = {}
    minimise, phases = trainer._minimise, itertools.count()

    def keep(phase, parts):
        result = minimise(phase, parts)
        number = next(phases)
        for i, slots in phase.trained.state_dict()["state"].items():
            kept[f"phase{number}/{i}"] = slots["exp_avg"].clone()
        return result

    trainer._minimise = keep
    return kept


def gradients(
    case: Case, shards: Path, source: Path, folder: Path, moments: bool = False
) -> tuple[dict[str, Tensor], int, Held]:
    """Every gradient of three steps, the parameters and averages after them, this rank's labels; the world size.

    Args:
        moments: take the gradients from the optimisers, where they are of any engine.
    """
    experiment = tiny.transfer(shards, source, *case.overrides())
    double = case.dtype == "float64"
    with float64() if double else nullcontext(), patch("hmgan.train.prepare.Runtime", Recording):
        prepared = prepare(experiment)
        # The files hold float32, so that both ranks and the reference begin from the same numbers.
        if double:
            for network in prepared.networks:
                network.double()
        runtime = prepared.runtime
        assert isinstance(runtime, Recording)
        trainer = Trainer(prepared.task, runtime, folder, tiny.no_snapshot)
        for group in adam_groups(trainer) if double else ():
            group["eps"] = EPSILON
        kept = keep_gradients(trainer) if moments else runtime.tensors
        if case.scenario == "reconstruction":
            trainer.task.feature_net.double()
        labels: list[Tensor] = []
        step = trainer.take_step

        def keep_labels(batch):
            labels.append(batch.labels)
            return step(batch)

        trainer.take_step = keep_labels
        with RunLog(None, experiment.train.kimg) as log:
            trainer.train(log)
    tensors = {**kept, "labels": torch.stack(labels)}
    for name, network in (
        ("learner", trainer.task.learner),
        ("discriminator", trainer.task.discriminator),
        ("average", trainer.task.ema.ema_model),
    ):
        whole = trainer.engine.kept(network, frozenset()).state_dict()
        tensors |= {f"after/{name}/{key}": value.clone() for key, value in whole.items()}
    return tensors, runtime.world, held(trainer)


def main(shards: Path, source: Path, out: Path, *cases: Case) -> None:
    asked = int(os.environ["WORLD_SIZE"])
    for case in cases:
        tensors, world, size = gradients(case, shards, source, out / case.name, case.of_any_engine)
        assert world == asked, f"{asked} ranks were asked for, got a world of {world}"
        rank = torch.distributed.get_rank()
        save_file(tensors, out / f"{case.name}-rank{rank}.safetensors", {"world": str(world), "held": json.dumps(size)})
    torch.distributed.destroy_process_group()
