"""`hmgan pretrain`, `align` and `train`: from the command line's options to a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmgan.config import experiment as config
from hmgan.config.experiment import Experiment
from hmgan.errors import UserError
from hmgan.train import dryrun, precision, rundir
from hmgan.train.distributed.rendezvous import failure_announced
from hmgan.train.prepare import prepare, runtime_of
from hmgan.train.run import run_training
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.alignment import aligning

AUTO = "auto"
# What a run may go on under: how it is spread, not what it computes.
SPREAD = ("compute.engine", "train.accumulate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortcuts:
    """Options that stand for settings of an experiment, in their units, see `placed`; None: not given."""

    data: list[str] | None = None
    source: str | None = None
    kimg: float | None = None
    batch: int | None = None
    gamma: float | None = None
    mirror: bool | None = None
    aug: str | None = None
    snap: float | None = None
    metrics: int | None = None
    seed: int | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions(Shortcuts):
    """What `hmgan pretrain`, `align` or `train` was asked for.

    Args:
        verb: pretrain, align or train.
        outdir: that run directories are made in.
        overrides: A.B=C, in their order.
        resume: a run directory, "latest" or "auto"; None: a new run.
        dry_run: say what would be trained, and train nothing.
    """

    verb: str
    experiment: str
    outdir: Path = Path("runs")
    overrides: Sequence[str] = ()
    resume: str | None = None
    dry_run: bool = False


def train(options: TrainOptions) -> Path:
    """Runs or resumes an experiment and returns its run directory.

    Raises: UserError before anything is written, for whatever is wrong with the options.
    """
    outdir, again = options.outdir, options.resume == AUTO
    if options.resume and not again:
        return resume(options, options.resume)
    with failure_announced():
        experiment = configured(options)
    runtime = runtime_of(experiment)
    with runtime.watched():
        prepared = prepare(experiment, runtime)
        if options.dry_run:
            dryrun.print_plan(prepared)
            return outdir
        kept, made = None, outdir
        if runtime.main:
            data, resolution = experiment.data_label, prepared.networks.generator.resolution
            kept = rundir.same(outdir, experiment) if again else None
            made = kept or rundir.create(outdir, options.experiment, data, resolution, runtime.world, experiment)
        # Rank 0 alone looks and makes: on a shared file system another rank may see what is there later.
        kept, folder = runtime.share((kept, made))
        return run_training(prepared, folder, resume=kept is not None)


def configured(options: TrainOptions) -> Experiment:
    """The experiment that the options name, without a look at its data. Raises UserError for what is wrong in it."""
    name, verb = options.experiment, options.verb
    asked = precision.launched()
    before = [] if asked is None else [f"compute.precision={asked}"]  # --set comes after, and wins
    experiment = config.anchored(config.load(name, [*before, *options.overrides], placed(options)))
    if tasks.verb(experiment) == "train" and verb == "align":  # any transfer's heads can be aligned
        return aligning(experiment)
    if tasks.verb(experiment) != verb:
        raise UserError(f"experiment {name!r} is for hmgan {tasks.verb(experiment)}, got hmgan {verb}")
    return experiment


def resume(options: TrainOptions, run: str) -> Path:
    """Goes on with a run, under its own configuration; --kimg may lengthen it, and another engine take it over."""
    with failure_announced():
        folder, kept, experiment = lengthened(options, run)
    runtime = runtime_of(experiment)
    with runtime.watched():
        prepared = prepare(experiment, runtime)
        if options.dry_run:
            dryrun.print_plan(prepared)
            return folder
        if runtime.main and experiment != kept:
            rundir.keep_config(folder, experiment)
        return run_training(prepared, folder, resume=True)


def lengthened(options: TrainOptions, run: str) -> tuple[Path, Experiment, Experiment]:
    """The run to go on with, its own configuration, and the one to go on under. Raises UserError for what is wrong."""
    folder = rundir.latest(options.outdir) if run == "latest" else Path(run)
    kept = rundir.read_config(folder)
    if tasks.verb(kept) != options.verb:
        raise UserError(f"{folder} is a run of hmgan {tasks.verb(kept)}, got hmgan {options.verb}")
    given, spread = placed(options), options.overrides
    changes = {key for key in given if key != "train"} | set(given.get("train", {})) - {"kimg"}
    if changes or not all(is_spread(override) for override in spread):
        raise UserError(
            "--resume goes on with the run's own configuration; only --kimg, --set compute.engine and "
            "--set train.accumulate may be given beside it"
        )
    asked = precision.launched()
    if asked not in (None, kept.compute.precision):
        raise UserError(
            f"{folder} trains in {kept.compute.precision}, accelerate launch asks for {asked}; leave that out"
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
    return key in SPREAD or key.startswith("compute.engine.")


def placed(options: Shortcuts) -> dict[str, Any]:
    """The options that were given, where they stand in the table of an experiment."""
    tables: dict[str, dict[str, object]] = {
        "data": {"sources": options.data},
        "train": {
            "kimg": options.kimg,
            "batch": options.batch,
            "snap": options.snap,
            "seed": options.seed,
        },
        "loader": {"mirror": options.mirror, "workers": options.workers},
        "r1": {"gamma": options.gamma},
        "augment": {"name": options.aug},
        "evaluation": {"per_class": options.metrics},
    }
    given = {name: {key: value for key, value in keys.items() if value is not None} for name, keys in tables.items()}
    source = {} if options.source is None else {"source": options.source}
    return source | {name: keys for name, keys in given.items() if keys}
