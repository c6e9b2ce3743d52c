"""The loop: D phase, G phase, EMA; status, snapshot, checkpoint. Pretraining, alignment and transfer are one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmgan import components, rng
from hmgan.assemble import Generator, Networks
from hmgan.config import Experiment
from hmgan.data.loader import Tolerance, batches
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError
from hmgan.modulation.transfer import TransferGenerator
from hmgan.modulation.unconditional import UnconditionalGenerator
from hmgan.train import checkpoint, ema, phases
from hmgan.train.anchors import Turns
from hmgan.train.log import RunLog, warn
from hmgan.train.nonfinite import Nonfinite
from hmgan.train.optim import discriminator_optimizer, generator_optimizer
from hmgan.train.phases import Draws, Stats
from hmgan.train.reconstruction import LearnedLatents, Reconstructor
from hmgan.train.runtime import Runtime
from hmgan.train.saver import Saver
from hmgan.train.terms import chosen, penalties, restraint, rules
from hmgan.types import Batch

CHECKPOINTS = "checkpoints"


class Trainer:
    """Networks, optimisers and the step count; everything random is a function of (seed, step).

    Args:
        data: the training images; None for alignment, which needs none.
        classes: number of classes.
        folder: the run directory, on every rank.
        on_snapshot: called on every rank with (trainer, kimg) when a snapshot is due, before the checkpoint.

    Raises: UserError if the global batch cannot be split over the ranks.
    """

    def __init__(
        self,
        experiment: Experiment,
        networks: Networks,
        runtime: Runtime,
        data: ShardSet | None,
        classes: int,
        folder: Path,
        on_snapshot: Callable[[Trainer, float], None],
    ) -> None:
        settings = experiment.train
        self.experiment, self.settings, self.runtime = experiment, settings, runtime
        self.data, self.classes, self.folder, self.on_snapshot = data, classes, folder, on_snapshot
        self.batch_per_rank = rank_batch(settings.batch, runtime.world)
        self.step = 0
        self.generator = networks.generator.to(runtime.device)
        self.discriminator = networks.discriminator.to(runtime.device)
        freeze(self.discriminator, settings.freeze)
        # All of D that trains and is kept in checkpoints; with anchors, a patch head beside D's own.
        self.critic, self.turns = self.discriminator, None
        if experiment.anchors is not None:
            assert isinstance(self.generator, UnconditionalGenerator)
            self.turns = Turns(experiment.anchors, self.generator, self.discriminator, settings.seed)
            self.critic = self.turns.patches.to(runtime.device)
        # D's trained parameters are switched off in the G phase, so they are listed once, here.
        self._disc_parameters = [p for p in self.critic.parameters() if p.requires_grad]
        self.rules = rules(experiment, runtime.device)
        self.penalties = penalties(experiment, self.generator.resolution, runtime.device)
        self.restraint = restraint(experiment, networks)
        self.nonfinite = Nonfinite(settings, data)
        self.saver = Saver(folder / CHECKPOINTS, settings.checkpoints)
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
                experiment.reconstruction, latents, feature_net, self.gen_optimizer, runtime
            )
        half_life = ema.half_life_kimg(settings.batch) if experiment.ema.kimg == "auto" else experiment.ema.kimg
        self.ema = ema.moving_average(self.generator.trained, settings.batch, half_life, experiment.ema.power)

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
        return self.generator.with_trained(self.ema.ema_model)

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything a checkpoint holds; the frozen source is not among it."""
        adversary = self.experiment.adversary
        perhaps: dict[str, Any] = {
            "discriminator": self.critic if adversary else None,
            "disc_optimizer": self.disc_optimizer if adversary else None,
            "regularizer": self.penalties.regularizer,
            "augment": self.rules.augment,
            "latents": None if self.reconstructor is None else self.reconstructor.latents,
        }
        return {
            "generator": self.generator.trained,
            "ema": self.ema,
            "gen_optimizer": self.gen_optimizer,
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
        self.on_snapshot(self, self.kimg)

    def save(self) -> None:
        """Begins to write a checkpoint, on rank 0: every rank holds the same."""
        if self.runtime.main:
            state = {"step": self.step, "kimg": self.kimg, "nonfinite": self.nonfinite.state()}
            self.saver.save(self.step, self.parts(), state)

    def draws(self) -> Draws:
        """This rank's part of the step's random streams."""
        first = self.step * self.settings.batch + self.runtime.rank * self.batch_per_rank
        return Draws(self.settings.seed, self.step, first, self.batch_per_rank)

    def _stream(self, report: Callable[[str], None] = warn) -> Iterator[Batch]:
        if self.data is None:
            return iter(())
        return batches(
            self.data,
            batch_per_rank=self.batch_per_rank,
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
        real, labels = phases.as_images(batch.images.to(self.runtime.device)), batch.labels.to(self.runtime.device)
        undo = self._begin("reconstruction")
        loss, stats = self.reconstructor.loss(self.generator, real, labels, self.draws(), self.kimg)
        if self._gen_step(loss):
            self._leave_out("reconstruction", stats, undo)
        return stats

    def _gan_step(self, batch: Batch) -> Stats:
        draws, mixing, mining = self.draws(), self.settings.mixing, self.experiment.mining
        if mining is not None:
            miner_alone(self.generator.trained, self.kimg < mining.kimg)
        real = phases.as_images(batch.images.to(self.runtime.device))
        # The fakes take the real batch's labels: D sees the same mixture of classes on both sides.
        labels = batch.labels.to(self.runtime.device)
        if self.settings.mirror:
            real = phases.mirrored(real, draws.keys("mirror"))
        generator, discriminator = self.generator, self.discriminator
        self._disc_gradients(True)
        undo = self._begin("D")
        if self.turns is not None:
            generator, discriminator, idle = self.turns.at(self.step)
            for parameter in idle:
                parameter.requires_grad_(False)
        loss, stats = phases.disc_loss(
            generator,
            discriminator,
            self.rules,
            self.penalties,
            self.runtime,
            real,
            labels,
            draws,
            mixing,
        )
        if self.runtime.step(self.critic, self.disc_optimizer, loss):
            self._leave_out("D", stats, undo)
        self._disc_gradients(False)
        undo = self._begin("G")
        loss, more = phases.gen_loss(
            generator, discriminator, self.rules, self.runtime, real, labels, draws, mixing, self.restraint
        )
        if self._gen_step(loss):
            self._leave_out("G", more, undo)
        return stats | more

    def _align_step(self) -> Stats:
        draws = self.draws()
        uniform_B = rng.uniform_rows(draws.keys("label"), 1)[:, 0]
        labels_B = (uniform_B * self.classes).long().to(self.runtime.device)
        assert isinstance(self.generator, TransferGenerator)
        undo = self._begin("align")
        loss, stats = phases.align_loss(self.generator, labels_B, draws)
        if self._gen_step(loss):
            self._leave_out("align", stats, undo)
        return stats

    def _gen_step(self, loss: Tensor) -> bool:
        """Whether it was left out, and the average with it."""
        spoilt = self.runtime.step(self.learner, self.gen_optimizer, loss)
        if not spoilt:
            self.ema.update()
        return spoilt

    def _begin(self, phase: str) -> Callable[[], None]:
        """The result undoes what the phase's forward passes will have changed."""
        self.runtime.progress.at(f"step {self.step}, {phase} phase")
        adaptive = (self.penalties.regularizer, self.rules.augment)
        modules = (self.generator.trained, self.critic, *adaptive)
        return self.nonfinite.undo(module for module in modules if isinstance(module, nn.Module))

    def _leave_out(self, phase: str, stats: Stats, undo: Callable[[], None]) -> None:
        self.nonfinite.met(phase, self.step, self.runtime.mean(stats))
        undo()

    def _disc_gradients(self, on: bool) -> None:
        for parameter in self._disc_parameters:
            parameter.requires_grad_(on)


def miner_alone(backbone: nn.Module, alone: bool) -> None:
    """MineGAN's first stage holds all of G but its miner; the second trains everything."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name.startswith("miner.") or not alone)


def rank_batch(batch: int, world: int) -> int:
    """Images per rank. Raises UserError if the global batch cannot be split evenly."""
    if batch % world:
        raise UserError(f"train.batch {batch} does not divide over {world} ranks; change --batch")
    return batch // world


def freeze(network: nn.Module, names: list[str]) -> None:
    """Switches the gradients of whole parts off. Raises UserError for a part that is not there."""
    parts = dict(network.named_modules())
    for name in names:
        if name not in parts:
            inside = name.rpartition(".")[0] if name.rpartition(".")[0] in parts else ""
            known = [part for part in parts if part and part.rpartition(".")[0] == inside]
            raise UserError(f"train.freeze names {name!r}{components.nearest(name, known)} D has: {', '.join(known)}")
        parts[name].requires_grad_(False)
