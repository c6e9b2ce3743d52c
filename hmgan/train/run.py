"""A run from its first line to its last: started in its folder, or resumed there."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from hmgan import files
from hmgan.config import entries
from hmgan.config.loading import to_table
from hmgan.errors import UserError
from hmgan.layers.float32 import products
from hmgan.pictures.grids import GRID_COLUMNS, class_grid, shown, which
from hmgan.pictures.images import save_png
from hmgan.train import checkpoint, claims, rundir, unshown
from hmgan.train.distributed.signals import Interrupted
from hmgan.train.log import RunLog
from hmgan.train.prepare import Prepared
from hmgan.train.snapshot import Snapshots
from hmgan.train.tasks import build as tasks
from hmgan.train.trainer import CHECKPOINTS, Trainer


def run_training(
    prepared: Prepared, folder: Path, resume: bool = False, console: Console | None = None, verb: str | None = None
) -> Path:
    """Trains in `folder`, which exists, and returns it.

    Args:
        verb: of the command that goes on with it; left out: its task's.

    Raises: SystemExit where a signal stopped the run, with the code that launchers start it again on.
    """
    experiment, runtime = prepared.experiment, prepared.runtime
    claim = claims.alone(folder / rundir.CLAIMS, str(folder)) if runtime.main else nullcontext()
    with (
        claim,
        RunLog(folder if runtime.main else None, experiment.train.kimg, console) as log,
        runtime.stop.listening(tell=runtime.main),
    ):
        runtime.track(folder, to_table(experiment))
        scored = "" if prepared.reals is None else prepared.reals.digest
        registries = [word for added in entries.added() for word in ("--registry", str(added))]
        command = ["hmgan", *registries, verb or tasks.verb(experiment), "--resume", str(folder)]
        again = f"to go on: {shlex.join(command)}"
        try:
            snapshots = Snapshots(prepared, folder, log)
        except Interrupted:
            log.say(f"stopped  by {runtime.stop.reason} before it began; {again}")
            raise SystemExit(runtime.stop.code) from None
        trainer = Trainer(prepared.task, runtime, folder, snapshots.write, scored)
        if resume:
            resume_run(trainer, folder, log)
        else:
            log.say(f"run      {folder}")
            trained = sum(p.numel() for p in trainer.task.generator.trained.parameters() if p.requires_grad)
            batch = f"batch {experiment.train.batch} on {runtime.world} x {runtime.device.type}"
            log.say("; ".join(filter(None, [f"G trains {trained:,} parameters", batch, trainer.task.summary()])))
            some = shown(prepared.classes, prepared.networks.generator.resolution)
            if left_out := which(some, prepared.classes):
                log.say(left_out)
            if prepared.data is not None and runtime.main:
                if text := unshown.warning(experiment, prepared.data):
                    log.say(text)
                save_png(class_grid(prepared.data.examples(GRID_COLUMNS, some)), folder / "reals.png")
        with files.named_if_full(folder), products(tf32=experiment.compute.tf32):
            trainer.train(log)
        finished = trainer.step >= trainer.last and not trainer.undrawn
        saved = f"checkpoint {trainer.step:09d} is saved" if trainer.step else "nothing was trained yet"
        stopped = f"stopped  by {runtime.stop.reason} at kimg {trainer.kimg:.3f}; {saved}; {again}"
        log.say(f"finished {folder}" if finished else stopped)
    runtime.accelerator.end_training()
    if not finished:
        raise SystemExit(runtime.stop.code)
    return folder


def resume_run(trainer: Trainer, folder: Path, log: RunLog) -> None:
    """Restores the newest whole checkpoint, if there is any, on every rank, and cuts the logs back to it."""
    runtime = trainer.runtime
    # Rank 0 chooses: another rank may read something else from a shared disk by now.
    chosen = runtime.share(newest_whole(trainer, folder, log) if runtime.main else None)
    if chosen is not None and not runtime.main:
        trainer.resume(chosen, verified=True)
    if log.folder is not None:
        reached = trainer.kimg if chosen is not None else -1.0
        cut = rundir.cut_to(reached, folder / "stats.jsonl", folder / "metrics.jsonl")
        rundir.keep_config(folder, trainer.experiment)  # what was given beside --resume is known to be right now
        rundir.clear(log.folder)
        cut()
    log.say(f"resumed  {folder} at kimg {trainer.kimg:.3f}")


def newest_whole(trainer: Trainer, folder: Path, log: RunLog) -> Path | None:
    """Restores the newest whole checkpoint, and puts newer, damaged ones aside; None for a run without any.

    Raises: UserError if all of them are damaged; they stay as they are, or the next try would begin anew.
    """
    damaged: list[tuple[Path, checkpoint.CheckpointError]] = []
    for path in checkpoint.stored(folder / CHECKPOINTS):
        try:
            trainer.resume(path)
        except checkpoint.CheckpointError as error:
            damaged.append((path, error))
            continue
        for bad, why in damaged:
            log.say(f"warning: {why}; renamed to {checkpoint.put_aside(bad).name}, trying the one before")
        return path
    if damaged:
        raise UserError(f"no whole checkpoint is left in {folder / CHECKPOINTS}; restore one, or start a new run")
    return None
