"""The loop: D phase, G phase, EMA; status, snapshot, checkpoint. Pretraining, alignment and transfer are one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from hmgan import rng
from hmgan.config.experiment import Experiment
from hmgan.data.images import Shown, Tolerance
from hmgan.generators.build import Generator, Networks
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.train import checkpoint, precision
from hmgan.train.checkpoint import Saver
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.engines.base import Kept, Trained
from hmgan.train.engines.choose import engine_of
from hmgan.train.log import RunLog, warn
from hmgan.train.microbatches import Gather, Loss, Stats, T, minimise, part_batch
from hmgan.train.nonfinite import Nonfinite, remembered
from hmgan.train.optim import (
    discriminator_optimizer,
    freeze,
    generator_optimizer,
    half_life_kimg,
    miner_alone,
    moving_average,
)
from hmgan.train.tasks import gan
from hmgan.train.tasks.anchors import Turns
from hmgan.train.tasks.gan import Draws
from hmgan.train.tasks.learned_latents import LearnedLatents, Reconstructor
from hmgan.train.terms import chosen, penalties, restraint, rules
from hmgan.types import Batch

CHECKPOINTS = "checkpoints"


class Part(NamedTuple):
    """Of a rank's batch: what passes through the networks at once."""

    real: Tensor
    labels: Tensor
    draws: Draws


class Trainer:
    """Networks, optimisers and the step count; everything random is a function of (seed, step).

    Args:
        data: the training images; None for alignment, which needs none.
        classes: number of classes.
        folder: the run directory, on every rank.
        on_snapshot: called on every rank with (trainer, kimg) when a snapshot is due, before the checkpoint.

    Raises: UserError if the global batch cannot be split over ranks and parts.
    """

    def __init__(
        self,
        experiment: Experiment,
        networks: Networks,
        runtime: Runtime,
        data: Shown | None,
        classes: int,
        folder: Path,
        on_snapshot: Callable[[Trainer, float], None],
    ) -> None:
        settings = experiment.train
        self.experiment, self.settings, self.runtime = experiment, settings, runtime
        self.data, self.classes, self.folder, self.on_snapshot = data, classes, folder, on_snapshot
        self.part_batch = part_batch(settings, runtime.world)
        self.step = 0
        self.mixed = precision.mixed(settings, runtime.device)
        self.generator = networks.generator.to(runtime.device)
        self.discriminator = networks.discriminator.to(runtime.device)
        if settings.compile:
            precision.compile_parts(self.generator, self.discriminator)
        freeze(self.discriminator, settings.freeze)
        # All of D that trains and is kept in checkpoints; with anchors, a patch head beside D's own.
        self.critic, self.turns = self.discriminator, None
        if experiment.anchors is not None:
            assert isinstance(self.generator, UnconditionalGenerator)
            self.turns = Turns(experiment.anchors, self.generator, self.discriminator, settings.seed)
            self.critic = self.turns.patches.to(runtime.device)
        # D's trained parameters are switched off in the G phase, so they are listed once, here.
        self._disc_parameters = [p for p in self.critic.parameters() if p.requires_grad]
        self.rules = rules(experiment, runtime.device, self.mixed)
        self.penalties = penalties(experiment, self.generator.resolution, runtime.device)
        self.restraint = restraint(experiment, networks)
        self.nonfinite = Nonfinite(settings, data)
        self.saver = Saver(folder / CHECKPOINTS, settings.checkpoints)
        half_life = half_life_kimg(settings.batch) if experiment.ema.kimg == "auto" else experiment.ema.kimg
        self.ema = moving_average(self.generator.trained, settings.batch, half_life, experiment.ema.power)
        self.engine = engine_of(experiment, runtime)
        self.engine.divide(self.generator, self.ema.ema_model)
        self.gen_optimizer = generator_optimizer(self.generator, experiment.optimizer)
        self.disc_optimizer = discriminator_optimizer(self.critic, experiment.optimizer, experiment.r1.every)
        # All that trains in G's phase; with reconstruction, the images' z beside G.
        self.learner: nn.Module = self.generator
        self.reconstructor: Reconstructor | None = None
        if experiment.reconstruction is not None and data is not None:
            feature_net = chosen("feature-net", experiment.feature_net, runtime.device)
            latents = LearnedLatents(experiment.reconstruction, self.generator.backbone, data, settings.seed)
            self.learner = nn.ModuleList([self.generator, latents.to(runtime.device)])
            self.reconstructor = Reconstructor(
                experiment.reconstruction, latents, feature_net, self.gen_optimizer, settings.batch, self.mixed
            )
        self.gen = self.engine.trained(self.learner, self.gen_optimizer, settings.accumulate)
        self.disc = self.engine.trained(self.critic, self.disc_optimizer, settings.accumulate)

    @property
    def kimg(self) -> float:
        return self.step * self.settings.batch / 1000

    @property
    def last(self) -> int:
        """Steps of the whole schedule."""
        return math.ceil(1000 * self.settings.kimg / self.settings.batch)

    @property
    def averaged(self) -> Generator:
        """G with the moving average of its trained parts: what is shown, scored and kept."""
        return self.engine.whole(self.generator.with_trained(self.ema.ema_model))

    def parts(self) -> dict[str, Kept]:
        """Everything a checkpoint holds; the frozen source is not among it."""
        adversary = self.experiment.adversary
        perhaps: dict[str, Any] = {
            "discriminator": self.critic if adversary else None,
            "disc_optimizer": self.disc if adversary else None,
            "regularizer": self.penalties.regularizer,
            "augment": self.rules.augment,
            "latents": None if self.reconstructor is None else self.reconstructor.latents,
        }
        return {
            "generator": self.engine.kept(self.generator.trained),
            "ema": self.engine.kept(self.ema),
            "gen_optimizer": self.gen,
            **{name: part for name, part in perhaps.items() if part is not None},
        }

    def resume(self, folder: Path) -> None:
        """Goes on from a checkpoint, exactly."""
        state = checkpoint.load(folder, self.parts())
        self.step = state["step"]
        self.nonfinite.load(state.get("nonfinite", self.nonfinite.state()))  # older checkpoints have none

    def train(self, log: RunLog) -> None:
        """Trains to the end of the schedule, or to the step after which all ranks agree to stop."""
        log.start(self.kimg)
        if self.step == 0:
            self._snapshot()
        stream = self._stream(log.say if self.runtime.main else warn)
        with self.saver:
            while self.step < self.last and not self.runtime.stop.agreed:
                stats = self._align_step() if self.data is None else self._data_step(next(stream))
                self.step += 1
                self._after_step(stats, log)

    def _after_step(self, stats: Stats, log: RunLog) -> None:
        """Status, snapshot, checkpoint."""
        self.saver.check()
        log.advance(self.kimg)
        for line in self.nonfinite.news():
            log.say(line)
        if self._due(self.settings.tick):
            means = self.runtime.mean(stats) | self.nonfinite.counts()
            self.runtime.accelerator.log(log.tick(self.kimg, means), step=int(self.kimg))
        if self._due(self.settings.snap):
            self._snapshot()
        if self._due(self.settings.snap) or self.runtime.stop.agreed:
            self.save()

    def _due(self, kimg: float) -> bool:
        """Whether the last step reached or passed a multiple of `kimg`, or ended the run."""
        images, every = self.step * self.settings.batch, max(1, round(1000 * kimg))
        return images // every > (images - self.settings.batch) // every or self.step == self.last

    def _snapshot(self) -> None:
        self.runtime.progress.at(f"snapshot after step {self.step}")
        with precision.uncompiled():
            self.on_snapshot(self, self.kimg)

    def save(self) -> None:
        """Begins to write a checkpoint, on rank 0, which gathers what the engine has divided."""
        if self.runtime.main:
            state = {"step": self.step, "kimg": self.kimg, "nonfinite": self.nonfinite.state()}
            self.saver.save(self.step, self.parts(), state)
        elif self.engine.divides:
            for part in self.parts().values():
                part.state_dict()

    def draws(self, part: int = 0) -> Draws:
        """The step's random streams of a part of this rank's batch."""
        share = self.runtime.rank * self.settings.accumulate + part
        first = self.step * self.settings.batch + share * self.part_batch
        return Draws(self.settings.seed, self.step, first, self.part_batch)

    def _parts(self, batch: Batch) -> list[Part]:
        """On the device, and mirrored."""
        parts, here = [], precision.on_device(batch, self.runtime.device)
        shares = zip(*(x.split(self.part_batch) for x in here), strict=True)
        for i, (images, labels) in enumerate(shares):
            draws, real = self.draws(i), gan.as_images(images)
            real = gan.mirrored(real, draws.keys("mirror")) if self.settings.mirror else real
            parts.append(Part(real, labels, draws))
        return parts

    def _stream(self, report: Callable[[str], None] = warn) -> Iterator[Batch]:
        if self.data is None:
            return iter(())
        return self.data.batches(
            batch_per_rank=self.part_batch * self.settings.accumulate,
            rank=self.runtime.rank,
            world=self.runtime.world,
            seed=self.settings.seed,
            start_step=self.step,
            workers=self.settings.workers,
            tolerance=Tolerance(share=self.settings.tolerated, report=report),
        )

    def _data_step(self, batch: Batch) -> Stats:
        if self.reconstructor is None:
            return self._gan_step(batch)
        reconstructor = self.reconstructor

        def loss(part: Part, gather: Gather) -> tuple[Tensor, Stats]:
            return reconstructor.loss(self.generator, gather, *part, self.kimg)

        return self._gen_step("reconstruction", self._parts(batch), loss, compares=True)

    def _gan_step(self, batch: Batch) -> Stats:
        mixing, mining, rules = self.settings.mixing, self.experiment.mining, self.rules
        if mining is not None:
            miner_alone(self.generator.trained, self.kimg < mining.kimg)
        # The fakes take the real batch's labels: D sees the same mixture of classes on both sides.
        parts = self._parts(batch)
        generator, discriminator = self.generator, self.discriminator
        self._disc_gradients(True)
        if self.turns is not None:
            generator, discriminator, idle = self.turns.at(self.step)
            for parameter in idle:
                parameter.requires_grad_(False)

        def disc_loss(part: Part, gather: Gather) -> tuple[Tensor, Stats]:
            return gan.disc_loss(generator, discriminator, rules, self.penalties, gather, *part, mixing)

        def gen_loss(part: Part, gather: Gather) -> tuple[Tensor, Stats]:
            return gan.gen_loss(generator, discriminator, rules, gather, *part, mixing, self.restraint)

        compares = rules.compares or rules.adapts or self.penalties.compares
        _, stats = self._optimise("D", self.disc, parts, disc_loss, compares)
        self._disc_gradients(False)
        compares = rules.compares or (self.restraint is not None and self.restraint.compares)
        return stats | self._gen_step("G", parts, gen_loss, compares)

    def _align_step(self) -> Stats:
        generator = self.generator
        assert isinstance(generator, TransferGenerator)

        def loss(draws: Draws, gather: Gather) -> tuple[Tensor, Stats]:
            uniform_B = rng.uniform_rows(draws.keys("label"), 1)[:, 0]
            labels_B = (uniform_B * self.classes).long().to(self.runtime.device)
            return gan.align_loss(generator, labels_B, draws, self.mixed)

        parts = [self.draws(i) for i in range(self.settings.accumulate)]
        return self._gen_step("align", parts, loss, compares=False)

    def _gen_step(self, phase: str, parts: Sequence[T], loss: Loss[T], compares: bool) -> Stats:
        """Of G and its average."""
        spoilt, stats = self._optimise(phase, self.gen, parts, loss, compares)
        if not spoilt:
            self.ema.update()
        return stats

    def _optimise(
        self, phase: str, trained: Trained, parts: Sequence[T], loss: Loss[T], compares: bool
    ) -> tuple[bool, Stats]:
        """One phase: whether it was left out, and what there is to say of it."""
        runtime = self.runtime
        runtime.progress.at(f"step {self.step}, {phase} phase")
        adaptive = (self.penalties.regularizer, self.rules.augment)
        modules = [m for m in (self.generator.trained, self.critic, *adaptive) if isinstance(m, nn.Module)]
        undo, rewind = self.nonfinite.undo(modules), remembered(modules if len(parts) > 1 else ())
        place = (runtime.rank, runtime.world)
        spoilt, stats = minimise(trained, parts, loss, runtime.gather, place, compares, rewind)
        if spoilt:
            self.nonfinite.met(phase, self.step, runtime.mean(stats))
            undo()
        return spoilt, stats

    def _disc_gradients(self, on: bool) -> None:
        for parameter in self._disc_parameters:
            parameter.requires_grad_(on)
