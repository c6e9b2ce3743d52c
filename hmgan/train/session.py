"""One training command from its experiment to its run directory."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from hmgan import files
from hmgan.config.experiment import Experiment
from hmgan.data import named
from hmgan.data.images import Images
from hmgan.errors import UserError
from hmgan.evaluation.judge import Judge
from hmgan.files import cache_folder
from hmgan.generators import build
from hmgan.generators.aligned import start_aligned
from hmgan.generators.source import source_of
from hmgan.layers.float32 import products
from hmgan.metrics.networks import load_extractor
from hmgan.pictures.images import save_png
from hmgan.train import checkpoint, rundir
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.log import RunLog
from hmgan.train.preflight import rehearse
from hmgan.train.prepared import Prepared
from hmgan.train.snapshot import GRID_COLUMNS, Keeper, class_grid
from hmgan.train.trainer import CHECKPOINTS, Trainer

VERBS = {"pretrain": "hmgan pretrain", "align": "hmgan align", "transfer": "hmgan train"}


def runtime_of(experiment: Experiment) -> Runtime:
    """This process among the ranks, as the experiment wants it."""
    if experiment.train.threads:
        torch.set_num_threads(experiment.train.threads)
    return Runtime(trackers=experiment.train.trackers, timeout=experiment.train.timeout)


def prepare(experiment: Experiment, runtime: Runtime | None = None) -> Prepared:
    """Opens the data and builds the networks. Raises UserError for anything that does not fit; writes no run."""
    runtime = runtime or runtime_of(experiment)
    with runtime.accelerator.main_process_first():  # rank 0 packs a registry set, the others find it there
        data = named.open_training(experiment.data, labelled=experiment.conditional)
    classes = data.classes
    source = source_of(experiment)
    networks = build.build(experiment, source, len(classes))
    resolution = networks.generator.resolution
    if data.resolution != resolution:
        raise UserError(
            f"data {experiment.data} is {data.resolution} px and the generator {resolution} px; "
            f"pack it again with hmgan pack --resolution {resolution}"
        )
    start_aligned(networks.generator, experiment, source, len(classes))
    rehearse(experiment, networks, runtime, data)
    reals = scored_against(experiment, runtime, classes)
    shown = None if experiment.task == "align" else data
    return Prepared(experiment, runtime, networks, shown, classes, source, reals)


def scored_against(experiment: Experiment, runtime: Runtime, classes: tuple[str, ...]) -> Images | None:
    """The real images of the scores at snapshots, where the experiment asks for scores.

    Raises: UserError if their classes are not those of the training, or too few to score.
    """
    settings = experiment.evaluation
    if not settings.per_class or experiment.task == "align":
        return None
    load_extractor(settings.extractor)  # its name, before anything is written
    with runtime.accelerator.main_process_first():
        wanted = named.scored_against(experiment.data, settings.data)
        reals = named.open_images(wanted, labelled=experiment.conditional)
    if reals.classes != classes:
        raise UserError(
            f"evaluation.data has classes {', '.join(reals.classes)}, training has {', '.join(classes)}; "
            "they must be the same, in the same order"
        )
    if min(reals.counts) < 2:
        raise UserError(f"evaluation.data has a class of {min(reals.counts)} images, a score needs 2 or more")
    return reals


def run(prepared: Prepared, folder: Path, resume: bool = False, console: Console | None = None) -> Path:
    """Trains in `folder`, which exists, and returns it.

    Raises: SystemExit where a signal stopped the run, with the code that launchers start it again on.
    """
    experiment, runtime = prepared.experiment, prepared.runtime
    shown = folder if runtime.main else None
    runtime.track(folder)
    with RunLog(shown, experiment.train.kimg, console) as log, runtime.stop.listening():
        judge = make_judge(prepared)
        keeper = Keeper(prepared, folder, log, judge)
        trainer = Trainer(
            experiment, prepared.networks, runtime, prepared.data, len(prepared.classes), folder, keeper.snapshot
        )
        if resume:
            goes_on_from(trainer, folder, log)
        else:
            log.say(f"run      {folder}")
            log.say(opening_line(trainer))
            if prepared.data is not None and runtime.main:
                save_png(class_grid(prepared.data.examples(GRID_COLUMNS)), folder / "reals.png")
        with files.named_if_full(folder), products(tf32=experiment.train.tf32):
            trainer.train(log)
        finished = trainer.step >= trainer.last
        log.say(f"finished {folder}" if finished else stopped_line(trainer, folder))
    runtime.accelerator.end_training()
    if not finished:
        raise SystemExit(runtime.stop.code)
    return folder


def stopped_line(trainer: Trainer, folder: Path) -> str:
    verb, saved = VERBS[trainer.experiment.task], f"checkpoint {trainer.step:09d} is saved"
    return (
        f"stopped  by {trainer.runtime.stop.reason} at kimg {trainer.kimg:.3f}; {saved}; "
        f"to go on: {verb} EXPERIMENT --resume {folder}"
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
    trained = sum(p.numel() for p in trainer.generator.trained.parameters() if p.requires_grad)
    runtime, r1 = trainer.runtime, trainer.penalties
    game = f"; r1 gamma {r1.gamma:.4g} every {r1.r1_every} steps" if trainer.experiment.adversary else ""
    return (
        f"G trains {trained:,} parameters; batch {trainer.settings.batch} on {runtime.world} x "
        f"{runtime.device.type}{game}"
    )


def make_judge(prepared: Prepared) -> Judge | None:
    """Scores at snapshots, where the experiment asks for them."""
    if prepared.reals is None:
        return None
    settings = prepared.experiment.evaluation
    return Judge(prepared.reals, settings.extractor, cache_folder() / "features", prepared.runtime)
