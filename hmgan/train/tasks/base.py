"""What a task is to the training loop: the phases of a step, what checkpoints keep of it, and what is shown.

A task of your own is one class under a registered name; docs/architecture.md shows one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

from ema_pytorch import EMA
from torch import nn
from torch.optim import Adam

from hmgan.config.experiment import Experiment
from hmgan.data.images import Shown
from hmgan.discriminators.base import Discriminator
from hmgan.generators.base import Generator
from hmgan.train import precision
from hmgan.train.draws import Microbatch
from hmgan.train.engines.base import Engine, Kept, Ranks, Trained
from hmgan.train.microbatches import Loss
from hmgan.train.optim import generator_optimizer, half_life_kimg, moving_average


class Setup(NamedTuple):
    """What a task is built from."""

    experiment: Experiment
    generator: Generator
    discriminator: Discriminator
    data: Shown | None  # the training images; none for a bench of the steps alone
    classes: int
    ranks: Ranks


class Phase(NamedTuple):
    """One minimisation within a step, over the microbatches of the step."""

    name: str
    trained: Trained
    loss: Loss[Microbatch]
    compares: bool = False  # whether a sample's loss depends on the others of the global batch
    average: EMA | None = None  # a moving average that follows the phase


class Part(NamedTuple):
    """A network of the task, for the dry run."""

    name: str
    network: nn.Module
    averaged: bool  # whether a moving average of it is kept


class Task(ABC):
    """Training G; what else trains beside it, a task adds. Nothing is laid over the ranks before `start`.

    Raises: UserError, in the constructor and in `check`, for what cannot be trained.
    """

    images: ClassVar[bool] = True  # whether steps are given training images, or labels drawn at random alone
    starts_aligned: ClassVar[bool] = True  # whether random heads must have been aligned before
    verb: ClassVar[str] = "train"  # of the command line
    gen: Trained
    ema: EMA
    gen_optimizer: Adam

    def __init__(self, setup: Setup) -> None:
        self.setup, self.experiment = setup, setup.experiment
        self.data = setup.data if self.images else None
        self.device = setup.ranks.device
        self.generator, self.discriminator = setup.generator.to(self.device), setup.discriminator.to(self.device)
        self.mixed = precision.mixed(setup.experiment.compute, self.device)

    @abstractmethod
    def phases(self, step: int, parts: Sequence[Microbatch]) -> Iterator[Phase]:
        """What a step minimises, one phase after the other: each has been taken when the next is asked for."""

    @property
    def steady(self) -> bool:
        """Whether the same parameters train in every step, as an engine that divides them needs."""
        return True

    @property
    def learner(self) -> nn.Module:
        """All that trains in G's phase."""
        return self.generator

    def check(self) -> None:  # noqa: B027  (most tasks have nothing to add to their constructor's checks)
        """Looks for what would fail in the first step only, before a run directory is made. Computes nothing."""

    def start(self, engine: Engine) -> None:
        """Lays what trains over the ranks, with its optimisers and G's moving average."""
        experiment = self.experiment
        if experiment.compute.compile:
            precision.compile_parts(self.generator, self.discriminator)
        batch = experiment.train.batch
        half_life = half_life_kimg(batch) if experiment.ema.kimg == "auto" else experiment.ema.kimg
        self.ema = moving_average(self.generator.trained, batch, half_life, experiment.ema.power)
        self.engine = engine
        engine.divide(self.generator, self.ema.ema_model)
        self.gen_optimizer = self.optimizer()
        self.gen = engine.trained(self.learner, self.gen_optimizer, experiment.train.accumulate)

    def optimizer(self) -> Adam:
        """Of all that trains in G's phase."""
        return generator_optimizer(self.generator, self.experiment.optimizer)

    def kept(self) -> dict[str, Kept]:
        """What a checkpoint holds, by name, on every rank in the same order; the frozen source is not among it."""
        kept = self.engine.kept
        return {"generator": kept(self.generator.trained), "ema": kept(self.ema), "gen_optimizer": self.gen}

    def averaged(self) -> Generator:
        """G with the moving average of its trained parts: what is shown, scored and kept. Every rank calls this."""
        return self.engine.whole(self.generator.with_trained(self.ema.ema_model))

    def remembering(self) -> list[nn.Module]:
        """The modules that a pass changes beside gradients, by running statistics or probabilities."""
        return [self.generator.trained]

    def parts(self) -> list[Part]:
        """Its networks, for the dry run."""
        return [Part(name, network, averaged) for name, (network, averaged) in self.generator.parts().items()]

    def outside(self) -> str:
        """What of it reads G's weights outside G's passes, where an engine may not have them whole; usually nothing."""
        if self.generator.penalties() and self.experiment.modulation is not None:
            return f"modulation {self.experiment.modulation.name!r} has a loss on them"
        return self.generator.outside

    def summary(self) -> str:
        """What of it is worth a line when a run starts."""
        return ""
