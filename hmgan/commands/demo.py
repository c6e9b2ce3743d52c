"""`hmgan demo`: a transfer on the embedded photographs from start to report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from hmgan.config.loading import anchored, load_experiment, settings
from hmgan.data.images import Shown
from hmgan.data.named import scored_against
from hmgan.errors import UserError
from hmgan.evaluation.score import Score
from hmgan.evaluation.table import print_tables
from hmgan.generators.snapshot import load_generator, of_zoo
from hmgan.generators.source import load_source
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.options.study import DemoOptions
from hmgan.options.training import TrainOptions
from hmgan.pictures.grids import class_grid, fake_rows, one_photograph, shown
from hmgan.pictures.images import save_png
from hmgan.pictures.strips import interpolation_strip, style_grid
from hmgan.report.scores import recorded_scores
from hmgan.report.transfer import Transfer, transfer_report
from hmgan.train import rundir
from hmgan.train.command import lengthened
from hmgan.train.preflight import check_memory
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training
from hmgan.types import UNLABELLED

AMONG = 64  # real images of a class, the most central of which is shown repeated
LONGER = 4  # times as many kimg, for a run of a quarter of an hour


def run_demo(options: DemoOptions) -> Path:
    """Draws the source, transfers it, scores it before and after, and writes a folder with a report.

    Raises: UserError for an experiment that does not fit, or an output folder that cannot be made.
    """
    began = time.monotonic()
    name, run = options.experiment or "demo", options.resume
    if run is None:
        experiment = anchored(load_experiment(name, options.overrides, settings(options)))
        if experiment.backbone is not None:
            raise UserError(f"hmgan demo wants a transfer experiment, got {name!r}, a pretraining")
        prepared = prepare(experiment)
        check_memory(prepared.task)
        resolution = prepared.networks.generator.resolution
        folder = rundir.create(options.outdir, name, experiment.data_label, resolution, 1, experiment)
    else:
        given = TrainOptions(
            experiment=options.experiment, outdir=options.outdir, seed=options.seed, overrides=options.overrides
        )
        folder, experiment = lengthened(given, run)
        prepared = prepare(experiment)
    show_source(str(experiment.source), folder)
    run_training(prepared, folder, resume=run is not None, verb="demo")
    minutes = (time.monotonic() - began) / 60
    if prepared.data is not None:
        draw_references(prepared.data, str(experiment.data), folder)
    loaded = load_generator(folder)
    if loaded.transfer is not None:
        draw(loaded.transfer, loaded.classes, folder)
    before, after = recorded_scores(folder)
    aim = f"{len(loaded.classes)} classes" if experiment.conditional else f"{experiment.data}, without labels"
    words = [f"--set {shlex.quote(override)}" for override in options.overrides]
    words += [] if options.seed is None else [f"--seed {options.seed}"]
    transfer = Transfer(
        title=f"From {experiment.source} to {aim}",
        source=str(experiment.source),
        classes=loaded.classes,
        data=str(experiment.data),
        method=experiment.summary,
        kimg=float(loaded.config["kimg"]),
        minutes=minutes,
        command=" ".join(["hmgan demo", *words]),
        run=str(folder),
        collapse=experiment.evaluation.collapse,
        facts={
            "Scored against": str(scored_against(experiment.data, experiment.evaluation.data)),
            "Seed": str(experiment.train.seed),
        },
    )
    transfer_report(folder, transfer, before, after)
    tell(folder, before, after, minutes)
    say_what_next(folder, loaded.classes, float(loaded.config["kimg"]))
    return folder


def show_source(name: str, folder: Path) -> None:
    """The source's own images, source.png, before anything is trained."""
    source = UnconditionalGenerator(load_source(name).backbone).eval()
    save_png(class_grid(fake_rows(source, (UNLABELLED,))), folder / "source.png")


def draw_references(data: Shown, name: str, folder: Path) -> None:
    """What the images stand beside: photograph.png, and zoo.png where the registry has a model of the same data."""
    if len(data.classes) > 1:
        reals = data.examples(AMONG, shown(data.classes, data.resolution))
        save_png(class_grid(one_photograph(reals)), folder / "photograph.png")
    if (model := of_zoo(name)) is not None:
        loaded = load_generator(model)
        save_png(class_grid(fake_rows(loaded.generator, loaded.classes)), folder / "zoo.png")


def draw(generator: TransferGenerator, classes: tuple[str, ...], folder: Path) -> None:
    """The pictures that need the trained generator."""
    with torch.no_grad():
        if len(classes) > 1:
            save_png(interpolation_strip(generator, classes), folder / "interpolation.png")
        save_png(style_grid(generator, classes), folder / "styles.png")


def tell(folder: Path, before: Sequence[Score], after: Sequence[Score], minutes: float) -> None:
    """Prints the scores, and where everything is."""
    console = Console(markup=False)
    if before:
        print_tables([("before", before), ("after", after)], console)
    console.print(f"{minutes:.1f} minutes; everything is in {folder}", highlight=False, soft_wrap=True)
    for name, what in (
        ("report.html", "open this one in a browser"),
        ("REPORT.md", "the same as text"),
        ("interpolation.png", "from class to class"),
    ):
        if (folder / name).is_file():
            console.print(f"  {folder / name}  {what}", highlight=False, soft_wrap=True)


def say_what_next(folder: Path, classes: Sequence[str], kimg: float) -> None:
    """Prints what to look at, and what a reader may want to type next."""
    run = shlex.quote(str(folder))
    lines = [
        f"look at {folder / 'styles.png'}: rows are classes and should part; images along a row should differ, where "
        "those of photograph.png are one image",
        f"draw more:  hmgan sample --network {run} --class {shlex.quote(classes[0])} --seeds 0-31 --grid 8x4",
        f"explore it: hmgan explore {run}",
        f"go on:      hmgan demo --resume {run} --set train.kimg={LONGER * kimg:g}",
    ]
    print("\n".join(lines if len(classes) > 1 else lines[1:]))
