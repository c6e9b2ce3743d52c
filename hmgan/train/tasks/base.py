"""What a task is to the training loop: the phases of a step, what checkpoints keep of it, and what is shown.

A task of your own is one class under a registered name; docs/architecture.md shows one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn
from torch.optim import Adam

from hmgan.config.experiment import Experiment
from hmgan.data.images import Shown
from hmgan.discriminators.base import Discriminator
from hmgan.generators.base import Generator
from hmgan.train import precision
from hmgan.train.draws import Microbatch
from hmgan.train.engines.base import Checkpointed, Engine, EngineRanks, Trained
from hmgan.train.optim import WarmingEMA, generator_optimizer, moving_average

Gather = Callable[[Tensor], Tensor]  # [B, ...] of one microbatch -> of all, over all ranks, in the order of the batch
Stats = dict[str, Tensor]  # scalars of the status line, by name
Loss = Callable[[Microbatch, Gather], tuple[Tensor, Stats]]


class Setup(NamedTuple):
    """What a task is built from."""

    experiment: Experiment
    generator: Generator
    discriminator: Discriminator
    data: Shown | None  # the training images; none for a bench of the steps alone
    classes: int
    ranks: EngineRanks


class Phase(NamedTuple):
    """One minimisation within a step, over the microbatches of the step."""

    name: str
    trained: Trained
    loss: Loss
    compares: bool = False  # whether a sample's loss depends on the others of the global batch
    average: WarmingEMA | None = None  # a moving average that follows the phase


class Task(ABC):
    """Training G; what else trains beside it, a task adds. Nothing is laid over the ranks before `start`.

    Raises: UserError, in the constructor and in `check`, for what cannot be trained.
    """

    uses_images: ClassVar[bool] = True  # whether steps are given training images, or labels drawn at random alone
    needs_alignment: ClassVar[bool] = True  # whether random heads must have been aligned before
    verb: ClassVar[str] = "train"  # of the command line
    trains_same_parameters = True  # in every step, as an engine that divides them needs
    round = 1  # steps in which every penalty that is not due in each has its turn
    gen: Trained
    ema: WarmingEMA
    gen_optimizer: Adam

    def __init__(self, setup: Setup) -> None:
        self.setup, self.experiment = setup, setup.experiment
        self.data = setup.data if self.uses_images else None
        self.device = setup.ranks.device
        self.generator, self.discriminator = setup.generator.to(self.device), setup.discriminator.to(self.device)
        self.learner: nn.Module = self.generator  # all that trains in G's phase
        compute, networks = setup.experiment.compute, (self.generator, self.discriminator)
        precision.check_graphs(compute, self.device)
        self.mixed = precision.mixed(compute, self.device)
        by_kernels, self._kernels = precision.join_passes(compute, self.device, *networks)
        # D's maps keep the layout of its images. G's are contiguous by layers, for instance norms; weights always are.
        on_cpu = self.discriminator.cpu_layout
        self.layout = precision.layout_of(self.device, compute.precision, by_kernels, on_cpu)

    @abstractmethod
    def phases(self, step: int, microbatches: Sequence[Microbatch]) -> Iterator[Phase]:
        """What a step minimises, one phase after the other: each has been taken when the next is asked for."""

    def check(self) -> None:  # noqa: B027  (most tasks have nothing to add to their constructor's checks)
        """Looks for what would fail in the first step only, before a run directory is made. Computes nothing."""

    def start(self, engine: Engine) -> None:
        """Lays what trains over the ranks, with its optimisers and G's moving average."""
        experiment = self.experiment
        batch = experiment.train.batch
        half_life = batch * 10 / 32 if experiment.ema.kimg == "auto" else experiment.ema.kimg  # Karras et al. 2020b
        trained, given, ema = self.generator.trained, self.generator.given(), experiment.ema
        self.ema = moving_average(trained, batch, half_life, ema.power, ema.warmup, given)
        self.engine = engine
        engine.divide(self.generator, self.ema.ema_model)
        self.gen_optimizer = self.optimizer()
        self.gen = engine.trained(self.learner, self.gen_optimizer, experiment.train.accumulate)

    def optimizer(self) -> Adam:
        """Of all that trains in G's phase."""
        return generator_optimizer(self.generator, self.experiment.optimizer)

    def kept(self) -> dict[str, Checkpointed]:
        """What a checkpoint holds, by name, on every rank in the same order; what of the source stays is not in it."""
        kept, given = self.engine.kept, self.generator.given()
        average = kept(self.ema, {f"ema_model.{name}" for name in given})
        return {"generator": kept(self.generator.trained, given), "ema": average, "gen_optimizer": self.gen}

    def averaged(self) -> Generator:
        """G with the moving average of its trained parts: what is shown, scored and kept. Every rank calls this."""
        return self.engine.whole(self.generator.with_trained(self.ema.ema_model))

    def stateful(self) -> list[nn.Module]:
        """The modules in which a pass changes more than gradients: running statistics, or probabilities."""
        return [self.generator.trained]

    def networks(self) -> dict[str, tuple[nn.Module, bool]]:
        """Its networks by name, and whether a moving average of each is kept; for the dry run."""
        return self.generator.parts()

    def reads_weights(self) -> str:
        """What reads G's weights outside its passes, when an engine may hold shares of them; usually nothing."""
        if self.generator.penalties() and self.experiment.modulation is not None:
            return f"modulation {self.experiment.modulation.name!r} has a loss on them"
        return self.generator.outside

    def news(self) -> list[str]:
        """Lines for the log that came up in a step, each once."""
        return []

    def summary(self) -> str:
        """What of it is worth a line when a run starts."""
        return self._kernels
