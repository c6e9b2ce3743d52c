"""`hmgan pretrain`, `align` and `train`: from the command line's options to a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmgan.config import experiment as config
from hmgan.config.experiment import Experiment
from hmgan.errors import UserError
from hmgan.train import dryrun, precision, rundir
from hmgan.train.distributed.rendezvous import excused
from hmgan.train.prepare import prepare, runtime_of
from hmgan.train.run import run_training
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.alignment import aligning

# Where the command line's own options stand in an experiment.
PLACES = {
    "data": ("data", "sources"),
    "source": ("source",),
    "kimg": ("train", "kimg"),
    "batch": ("train", "batch"),
    "mirror": ("train", "mirror"),
    "snap": ("train", "snap"),
    "seed": ("train", "seed"),
    "workers": ("train", "workers"),
    "gamma": ("r1", "gamma"),
    "aug": ("augment", "name"),
    "metrics": ("evaluation", "per_class"),
}
AUTO = "auto"
# What a run may go on under: how it is spread, not what it computes.
SPREAD = ("engine", "train.accumulate")


def train(verb: str, options: dict[str, Any]) -> Path:
    """Runs or resumes an experiment and returns its run directory.

    Raises: UserError before anything is written, for whatever is wrong with the options.
    """
    outdir, name, again = options["outdir"], options["experiment"], options["resume"] == AUTO
    if options["resume"] and not again:
        return resume(verb, options)
    with excused():
        experiment = configured(verb, options)
    runtime = runtime_of(experiment)
    with runtime.watched():
        prepared = prepare(experiment, runtime)
        if options["dry_run"]:
            dryrun.print_plan(prepared)
            return outdir
        kept, made = None, outdir
        if runtime.main:
            data, resolution = experiment.data_label, prepared.networks.generator.resolution
            kept = rundir.same(outdir, experiment) if again else None
            made = kept or rundir.create(outdir, name, data, resolution, runtime.world, experiment)
        # Rank 0 alone looks and makes: on a shared file system another rank may see what is there later.
        kept, folder = runtime.share((kept, made))
        return run_training(prepared, folder, resume=kept is not None)


def configured(verb: str, options: dict[str, Any]) -> Experiment:
    """The experiment that the options name, without a look at its data. Raises UserError for what is wrong in it."""
    name = options["experiment"]
    given = placed(options)
    asked = precision.launched()
    before = [] if asked is None else [f"train.precision={asked}"]  # --set comes after, and wins
    experiment = config.anchored(config.load(name, [*before, *(options["set_"] or [])], given))
    if tasks.verb(experiment) == "train" and verb == "align":  # any transfer's heads can be aligned
        return aligning(experiment)
    if tasks.verb(experiment) != verb:
        raise UserError(f"experiment {name!r} is for hmgan {tasks.verb(experiment)}, got hmgan {verb}")
    return experiment


def resume(verb: str, options: dict[str, Any]) -> Path:
    """Goes on with a run, under its own configuration; --kimg may lengthen it, and another engine take it over."""
    with excused():
        folder, kept, experiment = lengthened(verb, options)
    runtime = runtime_of(experiment)
    with runtime.watched():
        prepared = prepare(experiment, runtime)
        if options["dry_run"]:
            dryrun.print_plan(prepared)
            return folder
        if runtime.main and experiment != kept:
            rundir.keep_config(folder, experiment)
        return run_training(prepared, folder, resume=True)


def lengthened(verb: str, options: dict[str, Any]) -> tuple[Path, Experiment, Experiment]:
    """The run to go on with, its own configuration, and the one to go on under. Raises UserError for what is wrong."""
    latest = options["resume"] == "latest"
    folder = rundir.latest(options["outdir"]) if latest else Path(options["resume"])
    kept = rundir.read_config(folder)
    if tasks.verb(kept) != verb:
        raise UserError(f"{folder} is a run of hmgan {tasks.verb(kept)}, got hmgan {verb}")
    given, spread = placed(options), options["set_"] or []
    changes = {key for key in given if key != "train"} | set(given.get("train", {})) - {"kimg"}
    if changes or not all(is_spread(override) for override in spread):
        raise UserError(
            "--resume goes on with the run's own configuration; only --kimg, --set engine and --set train.accumulate "
            "may be given beside it"
        )
    asked = precision.launched()
    if asked not in (None, kept.train.precision):
        raise UserError(
            f"{folder} trains in {kept.train.precision}, accelerate launch asks for {asked}; leave that out"
        )
    if not given and not spread:
        return folder, kept, kept
    table = config.to_table(kept)
    for override in spread:
        config.merge(table, config.parse_override(override))
    config.merge(table, given)
    return folder, kept, config.resolve(table)


def is_spread(override: str) -> bool:
    key = override.partition("=")[0].strip()
    return key in SPREAD or key.startswith("engine.")


def placed(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as a nested table of the experiment."""
    table: dict[str, Any] = {}
    for option, path in PLACES.items():
        if options.get(option) is None:
            continue
        below = table
        for part in path[:-1]:
            below = below.setdefault(part, {})
        below[path[-1]] = options[option]
    return table
