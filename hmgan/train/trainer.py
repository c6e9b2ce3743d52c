"""The loop: the phases of a step, moving average, status, snapshot, checkpoint. What is minimised, a task knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import repeat
from pathlib import Path

import torch

from hmgan import host
from hmgan.ahead import Ahead
from hmgan.config.experiment import Experiment
from hmgan.data.images import Reading
from hmgan.errors import UserError
from hmgan.modulation.factors import Factors
from hmgan.modulation.step import Step, taking
from hmgan.train import checkpoint, draws
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.distributed.signals import Interrupted
from hmgan.train.draws import Draws, Microbatch, microbatch_size
from hmgan.train.engines.choose import engine_of
from hmgan.train.flops import work_of
from hmgan.train.log import RunLog, warn
from hmgan.train.microbatches import minimise
from hmgan.train.nonfinite import Nonfinite, Outcome, remembered
from hmgan.train.tasks.base import Phase, Stats, Task
from hmgan.types import Batch

CHECKPOINTS = "checkpoints"


class Trainer:
    """Trains a task; everything random is a function of (seed, step).

    Args:
        folder: the run directory, on every rank.
        on_snapshot: called on every rank with (trainer, kimg) when a snapshot is due, before the checkpoint.
        scored: digest of the images that snapshots are scored against; empty: none are.

    Raises: UserError if the global batch cannot be split over ranks and microbatches.
    """

    def __init__(
        self,
        task: Task,
        runtime: Runtime,
        folder: Path,
        on_snapshot: Callable[[Trainer, float], None],
        scored: str = "",
    ) -> None:
        self.task, self.runtime, self.folder, self.on_snapshot = task, runtime, folder, on_snapshot
        self.experiment, self.settings = task.experiment, task.experiment.train
        self.size = microbatch_size(self.settings, runtime.world)
        self.step = 0
        self.undrawn = True  # whether the snapshot of this step is still to be made
        self.nonfinite = Nonfinite(self.settings, task.data)
        self._unread: list[Outcome] = []
        self.ahead = Ahead(runtime.device) if self.experiment.compute.ahead else None
        self.late = runtime.device.type != "cpu"  # whether the device runs behind the host
        self.saver = saver_of(self.experiment, folder / CHECKPOINTS, runtime)
        self.engine = engine_of(self.experiment, runtime)
        data, reader = task.data, None if self.experiment.data is None else self.experiment.data.reader
        self.images = data.indexed("their digest").digest if data is not None and reader == "index" else ""
        self.scored = scored
        self.work = work_of(self.experiment, task.round, runtime.device)
        task.start(self.engine)

    @property
    def kimg(self) -> float:
        """Thousands of real images shown so far."""
        return self.step * self.settings.batch / 1000

    @property
    def last(self) -> int:
        """Steps of the whole schedule."""
        return math.ceil(1000 * self.settings.kimg / self.settings.batch)

    def resume(self, folder: Path, verified: bool = False) -> None:
        """Restores a checkpoint exactly; `verified` as for `checkpoint.load`.

        Raises: UserError if it was trained on, or scored against, other images.
        """
        state = checkpoint.load(folder, self.task.kept(), verified)
        if (trained_on := state.get("data", self.images)) != self.images:  # older checkpoints have none
            raise UserError(
                f"{folder} was trained on other images (digest {trained_on[:12]}) than those of "
                f"{self.experiment.data} ({self.images[:12]}); give --data where the same ones lie"
            )
        if self.scored and (scored := state.get("scored") or self.scored) != self.scored:
            raise UserError(
                f"{folder} was scored against other images (digest {scored[:12]}) than are there now "
                f"({self.scored[:12]}); give --set evaluation.data=PLACE where the same ones lie"
            )
        self.step, self.undrawn = state["step"], state.get("undrawn", False)
        self.nonfinite.load(state.get("nonfinite", self.nonfinite.state()))  # older checkpoints have none

    def train(self, log: RunLog) -> None:
        """Trains to the end of the schedule, or to the step after which all ranks agree to stop."""
        log.start(self.kimg)
        late = self.undrawn and self.step > 0
        if self.undrawn:
            self._snapshot()
        batches = self.batches(log.say if self.runtime.main else warn)
        with self.saver, self.ahead or nullcontext():
            if late and not self.undrawn:
                self.save()  # the checkpoint says that it is to be made
            while self.step < self.last and not self.runtime.stop.agreed:
                batch = next(batches)
                with self.work.counted():
                    stats = self.take_step(batch)
                self.step += 1
                self._after_step(stats, log)

    def take_step(self, batch: Batch | None) -> Stats:
        """Every phase of the task on one batch of this rank; what the losses report."""
        # Phases share edits, but not of several microbatches, whose graphs would all wait, nor where an engine has G's
        # weights whole only in its passes.
        shares_edits = self.settings.accumulate == 1 and "weights" not in self.engine.of_generator
        summed = self.runtime.world * self.settings.accumulate > 1 and self.engine.takes_factors
        by_count = self.experiment.compute.graphs and self.experiment.loader.stratified
        step = Step(shares_edits, Factors(self.task.setup.classes if summed else 0), by_count)
        stats = Stats()
        with taking(step), self.ahead.step() if self.ahead else nullcontext():
            microbatches = self.microbatches(batch, step)
            for phase in self.task.phases(self.step, microbatches):
                stats |= self._minimise(phase, microbatches)
        return stats

    def _minimise(self, phase: Phase, microbatches: Sequence[Microbatch]) -> Stats:
        modules = self.task.stateful()
        self.runtime.whereabouts.phase = f"step {self.step}, {phase.name} phase"
        rewind = remembered(modules if self.nonfinite.skips or len(microbatches) > 1 else ())
        verdict_2, stats = minimise(phase, microbatches, self.runtime, rewind, partial(self.settle, self.step))
        rewind(only=~verdict_2[0].isfinite())
        stats = {name: x.detach() for name, x in stats.items()}
        self._unread.append(Outcome(phase.name, self.step, host.Later(verdict_2), stats, phase.average))
        if not self.late:
            self.settle()
        elif phase.average is not None:
            phase.average.hold()
        return stats

    def settle(self, before: int | None = None) -> None:
        """What became of the phases of earlier steps than `before`, or of all; moving averages follow those taken.

        On a device that runs behind, that is read a step later, when it has been given the work of the next one.

        Raises: UserError for a phase that ends the run.
        """
        while self._unread and (before is None or self._unread[0].step < before):
            phase, step, verdict, stats, average = self._unread.pop(0)
            norm, stops = verdict.read()
            self.runtime.stop.agreed |= stops > 0
            if not math.isfinite(norm):
                self.nonfinite.found(phase, step, self.runtime.mean(stats))
            elif average is not None:
                average.update()

    def _after_step(self, stats: Stats, log: RunLog) -> None:
        """Status, snapshot, checkpoint."""
        if self._due(self.settings.tick) or self._due(self.settings.snap) or self.runtime.stop.agreed:
            self.settle()
        self.saver.check()
        log.advance(self.kimg)
        for line in (*self.nonfinite.news(), *self.task.news()):
            log.say(line)
        if self._due(self.settings.tick):
            means = self.runtime.mean(stats) | self.nonfinite.counts()
            told = log.tick(self.kimg, means, self.work.speed)
            self.runtime.accelerator.log(told, step=round(1000 * self.kimg))
        if self._due(self.settings.snap):
            self._snapshot()
        if self._due(self.settings.snap) or self.runtime.stop.agreed:
            self.save()

    def _due(self, kimg: float) -> bool:
        """Whether the last step reached or passed a multiple of `kimg`, or ended the run."""
        images, every = self.step * self.settings.batch, max(1, round(1000 * kimg))
        return images // every > (images - self.settings.batch) // every or self.step == self.last

    def _snapshot(self) -> None:
        self.runtime.whereabouts.phase = f"snapshot after step {self.step}"
        self.undrawn = True
        try:
            self.on_snapshot(self, self.kimg)
            self.undrawn = False
        except Interrupted:  # the resumed run makes it
            self.runtime.stop.agreed = True

    def save(self) -> None:
        """Starts to write a checkpoint: on all ranks, or on rank 0, for which all gather what the engine divides."""
        if self.runtime.main or self.saver.together:
            state = {"step": self.step, "kimg": self.kimg, "nonfinite": self.nonfinite.state(), "data": self.images}
            state |= {"scored": self.scored} if self.scored else {}
            state |= {"undrawn": True} if self.undrawn else {}
            self.saver.save(self.step, self.task.kept(), state)
        elif self.engine.divides:
            for entry in self.task.kept().values():
                entry.state_dict()

    def draws(self, microbatch: int = 0) -> Draws:
        """The step's random streams of a microbatch of this rank."""
        share = self.runtime.rank * self.settings.accumulate + microbatch
        first = self.step * self.settings.batch + share * self.size
        return Draws(self.settings.seed, self.step, first, self.size, self.settings.batch)

    def microbatches(self, batch: Batch | None, step: Step | None = None) -> list[Microbatch]:
        """The batch on the device, mirrored and cut; without one, labels drawn at random. Its step is told them."""
        device, step = self.runtime.device, step or Step()
        streams = [self.draws(i) for i in range(self.settings.accumulate)]
        if batch is None:
            none = torch.empty(0, device=device)
            return [Microbatch(none, step.sent(each.labels(self.task.setup.classes), device), each) for each in streams]
        images = host.sent(batch.images, device).split(self.size)
        labels = (step.sent(x, device) for x in batch.labels.split(self.size))
        shares = zip(map(draws.as_images, images), labels, streams, strict=True)
        mirror = self.experiment.loader.mirror
        return [Microbatch(draws.mirrored(x, d.keys("mirror")) if mirror else x, labels, d) for x, labels, d in shares]

    def batches(self, report: Callable[[str], None] = warn) -> Iterator[Batch | None]:
        """This rank's batches from the current step on; None for each step of a task that uses no images."""
        if self.task.data is None:
            return repeat(None)
        reading = Reading(
            batch_per_rank=self.size * self.settings.accumulate,
            rank=self.runtime.rank,
            world=self.runtime.world,
            seed=self.settings.seed,
            start_step=self.step,
            workers=self.experiment.loader.workers,
            tolerated=self.experiment.loader.tolerated,
            report=report,
        )
        return self.task.data.batches(reading)


def saver_of(experiment: Experiment, folder: Path, runtime: Runtime) -> checkpoint.Saver:
    """The experiment's, on every rank; one rank alone writes whole tensors."""
    keep = experiment.train.checkpoints
    if experiment.compute.checkpoint == "whole" or runtime.world == 1:
        return checkpoint.Saver(folder, keep)
    from hmgan.train.sharded import ShardedSaver  # torch.distributed.checkpoint takes a second to import

    return ShardedSaver(folder, keep, runtime.main, experiment.train.timeout)
