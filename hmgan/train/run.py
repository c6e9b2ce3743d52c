"""A run from its first line to its last: trained in its folder, or resumed there."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from hmgan import files
from hmgan.errors import UserError
from hmgan.evaluation.judge import Judge
from hmgan.files import cache_folder
from hmgan.layers.float32 import products
from hmgan.pictures.grids import GRID_COLUMNS, class_grid
from hmgan.pictures.images import save_png
from hmgan.train import checkpoint, rundir
from hmgan.train.log import RunLog
from hmgan.train.prepare import Prepared
from hmgan.train.snapshot import Keeper
from hmgan.train.tasks import build as tasks
from hmgan.train.trainer import CHECKPOINTS, Trainer


def run_training(prepared: Prepared, folder: Path, resume: bool = False, console: Console | None = None) -> Path:
    """Trains in `folder`, which exists, and returns it.

    Raises: SystemExit where a signal stopped the run, with the code that launchers start it again on.
    """
    experiment, runtime = prepared.experiment, prepared.runtime
    shown = folder if runtime.main else None
    runtime.track(folder)
    with RunLog(shown, experiment.train.kimg, console) as log, runtime.stop.listening():
        judge = make_judge(prepared)
        keeper = Keeper(prepared, folder, log, judge)
        trainer = Trainer(prepared.task, runtime, folder, keeper.snapshot)
        if resume:
            goes_on_from(trainer, folder, log)
        else:
            log.say(f"run      {folder}")
            log.say(opening_line(trainer))
            if prepared.data is not None and runtime.main:
                save_png(class_grid(prepared.data.examples(GRID_COLUMNS)), folder / "reals.png")
        with files.named_if_full(folder), products(tf32=experiment.compute.tf32):
            trainer.train(log)
        finished = trainer.step >= trainer.last
        log.say(f"finished {folder}" if finished else stopped_line(trainer, folder))
    runtime.accelerator.end_training()
    if not finished:
        raise SystemExit(runtime.stop.code)
    return folder


def stopped_line(trainer: Trainer, folder: Path) -> str:
    saved = f"checkpoint {trainer.step:09d} is saved"
    return (
        f"stopped  by {trainer.runtime.stop.reason} at kimg {trainer.kimg:.3f}; {saved}; "
        f"to go on: hmgan {tasks.verb(trainer.experiment)} EXPERIMENT --resume {folder}"
    )


def goes_on_from(trainer: Trainer, folder: Path, log: RunLog) -> None:
    """Restores the newest whole checkpoint, if there is any, and cuts the logs back to it."""
    runtime = trainer.runtime
    # Rank 0 chooses: what another rank reads from a shared disk may already be another answer.
    chosen = runtime.share(newest_whole(trainer, folder, log) if runtime.main else None)
    if chosen is not None and not runtime.main:
        trainer.resume(chosen)
    if log.folder is not None:
        rundir.clear(log.folder)
        for name in ("stats.jsonl", "metrics.jsonl"):
            rundir.drop_after(folder / name, trainer.kimg if chosen is not None else -1.0)
    log.say(f"resumed  {folder} at kimg {trainer.kimg:.3f}")


def newest_whole(trainer: Trainer, folder: Path, log: RunLog) -> Path | None:
    """Restores it, and puts damaged ones that are newer aside; None for a run without checkpoints.

    Raises: UserError if all of them are damaged.
    """
    stored = checkpoint.stored(folder / CHECKPOINTS)
    for path in stored:
        try:
            trainer.resume(path)
            return path
        except checkpoint.CheckpointError as error:
            log.say(f"warning: {error}; renamed to {checkpoint.put_aside(path).name}, trying the one before")
    if stored:
        raise UserError(f"no whole checkpoint is left in {folder / CHECKPOINTS}; restore one, or start a new run")
    return None


def opening_line(trainer: Trainer) -> str:
    runtime, task = trainer.runtime, trainer.task
    trained = sum(p.numel() for p in task.generator.trained.parameters() if p.requires_grad)
    summary = f"; {task.summary()}" if task.summary() else ""
    return (
        f"G trains {trained:,} parameters; batch {trainer.settings.batch} on {runtime.world} x "
        f"{runtime.device.type}{summary}"
    )


def make_judge(prepared: Prepared) -> Judge | None:
    """Scores at snapshots, where the experiment asks for them."""
    if prepared.reals is None:
        return None
    settings = prepared.experiment.evaluation
    return Judge(prepared.reals, settings.extractor, cache_folder() / "features", prepared.runtime)
