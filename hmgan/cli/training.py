"""Verbs that train, and that prepare for it. Heavy imports live inside them, so that --help answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmgan.cli.options import (
    Aug,
    Batch,
    Data,
    DryRun,
    Gamma,
    Kimg,
    Metrics,
    Mirror,
    Outdir,
    Resume,
    Seed,
    Set,
    Snap,
    SourceName,
    Workers,
)

if TYPE_CHECKING:
    from hmgan.train.command import TrainOptions

# What comes after the EXPERIMENT of `hmgan launch` is for `hmgan train` to read.
TRAINS_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def pretrain(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(help="A name of `hmgan list experiments`.")],
    outdir: Outdir = Path("runs"),
    data: Data = None,
    kimg: Kimg = None,
    batch: Batch = None,
    gamma: Gamma = None,
    mirror: Mirror = None,
    aug: Aug = None,
    snap: Snap = None,
    metrics: Metrics = None,
    seed: Seed = None,
    workers: Workers = None,
    resume: Resume = None,
    set_: Set = None,
    dry_run: DryRun = False,
) -> object:
    """Trains an unconditional GAN from scratch: a source, or the from-scratch baseline."""
    from hmgan.train.command import TrainOptions

    options = TrainOptions(
        verb="pretrain",
        experiment=experiment,
        outdir=outdir,
        data=data,
        kimg=kimg,
        batch=batch,
        gamma=gamma,
        mirror=mirror,
        aug=aug,
        snap=snap,
        metrics=metrics,
        seed=seed,
        workers=workers,
        resume=resume,
        overrides=set_ or (),
        dry_run=dry_run,
    )
    return trained(context, options)


def align(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(help="A transfer experiment whose heads are aligned to its source.")],
    outdir: Outdir = Path("runs"),
    data: Data = None,
    source: SourceName = None,
    kimg: Kimg = None,
    batch: Batch = None,
    snap: Snap = None,
    seed: Seed = None,
    resume: Resume = None,
    set_: Set = None,
    dry_run: DryRun = False,
) -> object:
    """Self-alignment (Eq. 6): pulls random heads to the source, without images; only the classes come from --data."""
    from hmgan.train.command import TrainOptions

    options = TrainOptions(
        verb="align",
        experiment=experiment,
        outdir=outdir,
        data=data,
        source=source,
        kimg=kimg,
        batch=batch,
        snap=snap,
        seed=seed,
        resume=resume,
        overrides=set_ or (),
        dry_run=dry_run,
    )
    return trained(context, options)


def train(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(help="A name of `hmgan list experiments`.")],
    outdir: Outdir = Path("runs"),
    data: Data = None,
    source: SourceName = None,
    kimg: Kimg = None,
    batch: Batch = None,
    gamma: Gamma = None,
    mirror: Mirror = None,
    aug: Aug = None,
    snap: Snap = None,
    metrics: Metrics = None,
    seed: Seed = None,
    workers: Workers = None,
    resume: Resume = None,
    set_: Set = None,
    dry_run: DryRun = False,
) -> object:
    """Transfers a source to the classes of --data."""
    from hmgan.train.command import TrainOptions

    options = TrainOptions(
        verb="train",
        experiment=experiment,
        outdir=outdir,
        data=data,
        source=source,
        kimg=kimg,
        batch=batch,
        gamma=gamma,
        mirror=mirror,
        aug=aug,
        snap=snap,
        metrics=metrics,
        seed=seed,
        workers=workers,
        resume=resume,
        overrides=set_ or (),
        dry_run=dry_run,
    )
    return trained(context, options)


def trained(context: typer.Context, options: TrainOptions) -> object:
    """Hands the options to whoever reads them, see `read`, or else trains."""
    from hmgan.train.command import train as run

    return (context.obj or run)(options)


def read(context: typer.Context, verb: str, words: Sequence[str]) -> TrainOptions:
    """What `hmgan VERB WORDS` would train. Trains nothing."""
    group: Any = context.find_root().command
    command = group.commands[verb]
    with command.make_context(f"hmgan {verb}", list(words), obj=lambda options: options) as own:
        options: TrainOptions = command.invoke(own)
    return options


def launch(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT [OPTIONS OF hmgan train]")],
    target: Annotated[str, typer.Option(help="local, torchrun, slurm, k8s or deepspeed.")] = "local",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus: Annotated[int | None, typer.Option(min=1, help="Ranks per machine; left out: this one's GPUs, or 1.")] = None,
    image: Annotated[str, typer.Option(help="Container image of Kubernetes pods.")] = "hmgan:latest",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be run; run nothing.")] = False,
) -> None:
    """Trains on many GPUs and machines: accelerate, torchrun, DeepSpeed, SLURM or Kubernetes.

    Its own options come before EXPERIMENT. What comes after is the training's, and is checked before anything starts.
    """
    from hmgan.launch.command import LaunchOptions
    from hmgan.launch.command import launch as run

    options = LaunchOptions(
        experiment=experiment,
        rest=context.args,
        target=target,
        nodes=nodes,
        gpus=gpus,
        image=image,
        dry_run=dry_run,
    )
    run(options, partial(read, context))


def demo(
    outdir: Annotated[Path, typer.Option(help="A new folder for the demo.")] = Path("demo"),
    experiment: Annotated[str, typer.Option(help="The transfer to show.")] = "demo",
    seed: Seed = None,
    set_: Set = None,
) -> None:
    """Transfers the embedded clothing GAN to shoes and bags, and writes a report; minutes on two CPU cores."""
    from hmgan.commands.demo import DemoOptions, run_demo

    run_demo(DemoOptions(outdir=outdir, experiment=experiment, overrides=set_ or (), seed=seed))


def compare(
    study: Annotated[str, typer.Argument(help="A name of `hmgan list studies`.")],
    outdir: Annotated[Path | None, typer.Option(help="Folder of the study; left out: studies/STUDY.")] = None,
    rows: Annotated[str | None, typer.Option(help="Only these methods, for example hyper-mod-b,adain.")] = None,
    targets: Annotated[str | None, typer.Option(help="Only these targets.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Only these seeds, for example 0,2-4.")] = None,
    workers: Annotated[
        str | None, typer.Option(help="Cells at once: a number, cpu:N or cuda:N, or both: cuda:3,cpu:2.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long, to be gone on with.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing; report what is finished.")] = False,
    set_: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say how far each cell is; run nothing.")] = False,
) -> None:
    """Trains a study's methods on its targets, going on where it was stopped, and reports them side by side.

    Several processes, on one machine or on several, may run the same study in the same folder.
    """
    from hmgan.commands.seeds import parse_seeds
    from hmgan.study.run import CompareOptions
    from hmgan.study.run import compare as run

    options = CompareOptions(
        study=study,
        outdir=outdir or Path("studies") / study,
        rows=rows.split(",") if rows else None,
        targets=targets.split(",") if targets else None,
        seeds=parse_seeds(seeds) if seeds else None,
        overrides=set_ or (),
        workers=workers,
        minutes=minutes,
        report_only=report_only,
        dry_run=dry_run,
    )
    if run(options):
        raise SystemExit(1)


def doctor(
    experiment: Annotated[str | None, typer.Argument(help="An experiment that has to fit into memory.")] = None,
    outdir: Outdir = Path("runs"),
    data: Data = None,
    source: SourceName = None,
    batch: Batch = None,
    set_: Set = None,
) -> None:
    """Whether machine, ranks and storage are fit to train: one page, exit code 0 if so. Start it as training is."""
    from hmgan.doctor.command import DoctorOptions
    from hmgan.doctor.command import doctor as run

    options = DoctorOptions(
        experiment=experiment, outdir=outdir, data=data, source=source, batch=batch, overrides=set_ or ()
    )
    if not run(options):
        raise SystemExit(1)
