"""`hmgan pretrain`, `align` and `train`: from the command line's options to a finished run."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.config.loading import (
    anchored,
    load_experiment,
    merge,
    parse_override,
    read_extended,
    resolve,
    settings,
    to_table,
)
from hmgan.errors import UserError
from hmgan.options.training import TrainOptions
from hmgan.train import dryrun, precision, rundir
from hmgan.train.distributed.elastic import fitted
from hmgan.train.distributed.rendezvous import failure_announced
from hmgan.train.preflight import check_memory, fits
from hmgan.train.prepare import Prepared, prepare, runtime_of
from hmgan.train.run import run_training
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.alignment import aligning

AUTO = "auto"
# What may change when a run is resumed: how it is spread over devices, not what it computes.
SPREAD = ("compute.engine.", "compute.checkpoint.", "train.accumulate.")
LONGER = ("train.kimg.",)  # as --kimg says it, where a verb has that option
MOVED = ("evaluation.data.",)  # where the images of the scores lie, which are checked by their digest


def train(options: TrainOptions) -> Path:
    """Runs or resumes an experiment and returns its run directory.

    Raises: UserError before anything is written, for whatever is wrong with the options.
    """
    named = options.resume if options.resume != AUTO else None
    with failure_announced():
        folder, experiment = lengthened(options, named) if named else (None, configured(options))
    with fitted(partial(fits, experiment)):
        return trained(options, folder, experiment)


def trained(options: TrainOptions, folder: Path | None, experiment: Experiment) -> Path:
    """The same of a configuration that is known, and a run directory that is, unless it is to be found or made."""
    runtime = runtime_of(experiment)
    with runtime.watched():
        prepared = prepare(experiment, runtime)
        if options.dry_run:
            dryrun.print_plan(prepared)
            return folder or options.outdir
        check_memory(prepared.task)
        again = folder is not None
        if folder is None:
            # Rank 0 alone looks: on a shared file system the other ranks may see a new folder late.
            folder, again = runtime.share(begun(options, prepared) if runtime.main else (options.outdir, False))
        return run_training(prepared, folder, resume=again)


def begun(options: TrainOptions, prepared: Prepared) -> tuple[Path, bool]:
    """The run directory, a new one if need be, and whether it is resumed."""
    experiment, resolution, name = prepared.experiment, prepared.networks.generator.resolution, options.experiment
    if options.resume == AUTO and (kept := rundir.same(options.outdir, experiment)):
        return kept, True
    world, label = prepared.runtime.world, experiment.data_label
    return rundir.create(options.outdir, str(name), label, resolution, world, experiment), False


def configured(options: TrainOptions) -> Experiment:
    """The experiment that the options name; its data is not opened. Raises UserError for whatever is wrong in it."""
    name, verb = options.experiment, options.verb
    if name is None:
        raise UserError("missing argument 'EXPERIMENT': a name of `hmgan list experiments`, or else --resume RUN")
    asked = precision.launched()
    before = [] if asked is None else [f"compute.precision={asked}"]  # --set comes after, and wins
    experiment = anchored(load_experiment(name, [*before, *options.overrides], settings(options)))
    if tasks.verb(experiment) == "train" and verb == "align":  # any transfer's heads can be aligned
        return aligning(experiment)
    if tasks.verb(experiment) != verb:
        raise UserError(f"experiment {name!r} is for hmgan {tasks.verb(experiment)}, got hmgan {verb}")
    return experiment


def begun_as(folder: Path, kept: Experiment) -> str | None:
    """The experiment that a run directory is named after, among those of its summary; None where it was renamed."""
    label = re.sub(r"^\d+-", "", folder.resolve().name)
    alike = [name for name in entries.entries("experiment") if read_extended(name).get("summary") == kept.summary]
    return max((name for name in alike if label.startswith(f"{name}-")), key=len, default=None)


def lengthened(options: TrainOptions, run: str) -> tuple[Path, Experiment]:
    """The run, and the configuration to resume it under. Raises UserError for whatever is wrong."""
    verb = options.verb
    folder = rundir.latest(options.outdir, lambda run: tasks.verb(run) == verb) if run == "latest" else Path(run)
    kept = rundir.read_config(folder)
    if tasks.verb(kept) != verb:
        raise UserError(f"{folder} is a run of hmgan {tasks.verb(kept)}, got hmgan {verb}")
    if (name := options.experiment) is not None:
        if read_extended(name)["summary"] != kept.summary:
            raise UserError(
                f"{folder} is a run of {kept.summary!r}, got EXPERIMENT {name}, which is another; leave it out"
            )
        if (own := begun_as(folder, kept)) not in (None, name):
            raise UserError(f"{folder} is a run of {own}, got EXPERIMENT {name}, which is another; leave it out")
    given, paths = settings(options), [override.partition("=")[0].strip() for override in options.overrides]
    others = given.keys() - {"train", "data"} or given.get("train", {}).keys() - {"kimg"}
    if others or not all(f"{path}.".startswith((*LONGER, *SPREAD, *MOVED)) for path in paths):
        raise UserError(
            "--resume goes on with the run's own configuration; only --kimg or --set train.kimg, "
            "--set compute.engine, --set compute.checkpoint, --set train.accumulate and, where the same images lie "
            "now, --data and --set evaluation.data may be given too"
        )
    asked = precision.launched()
    if asked not in (None, kept.compute.precision):
        raise UserError(
            f"{folder} trains in {kept.compute.precision}, accelerate launch asks for {asked}; leave that out"
        )
    table = to_table(kept)
    for override in options.overrides:
        merge(table, parse_override(override))
    merge(table, given)
    return folder, anchored(resolve(table))
