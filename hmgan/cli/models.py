"""Verbs that take a generator, or make one of foreign weights. Heavy imports live inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmgan.cli.options import Classes, Network, Seeds, Trunc


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the public StyleGAN port.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the source.")],
    resolution: Annotated[int | None, typer.Option(help="Output pixels; left out: the highest in the file.")] = None,
    stddev_group: Annotated[int, typer.Option(help="Of D's minibatch deviation; 0: the batch, as the port has.")] = 0,
) -> None:
    """Reads a foreign checkpoint into safetensors, with a report of every tensor."""
    from hmgan.importers.convert import import_checkpoint

    import_checkpoint(checkpoint, out, resolution=resolution, stddev_group=stddev_group)


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory, a snapshot or a source.")],
    data: Annotated[str | None, typer.Option(help="Images to score against; left out: those of the training.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Fakes per class; left out: as many as real images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fakes.")] = 1_000_000,
    trunc: Trunc = 1.0,
    extractor: Annotated[str, typer.Option(help="Feature extractor.")] = "squeezenet",
    metrics: Annotated[
        str, typer.Option(help="Any of fd,kd,kd-subsets,prdc,diversity,ppl,leakage, joined by commas.")
    ] = "fd,kd",
    perceptual: Annotated[str, typer.Option(help="Network of diversity and ppl.")] = "squeezenet-layers",
) -> None:
    """Scores per class and their means; left to itself, Frechet and kernel distance."""
    from hmgan.commands.evaluate import EvaluateOptions, print_scores

    options = EvaluateOptions(
        run=run,
        data=data,
        per_class=per_class,
        seed=seed,
        trunc=trunc,
        extractor=extractor,
        metrics=metrics.split(","),
        perceptual=perceptual,
    )
    print_scores(options)


def sample(
    network: Network,
    outdir: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples"),
    seeds: Seeds = "0-7",
    class_: Classes = None,
    trunc: Trunc = 1.0,
    grid: Annotated[str | None, typer.Option(help="One picture of COLUMNSxROWS instead of single ones.")] = None,
) -> None:
    """Draws images."""
    from hmgan.commands.sample import SampleOptions, draw_samples, parse_grid
    from hmgan.commands.seeds import parse_seeds

    options = SampleOptions(
        network=network,
        outdir=outdir,
        seeds=parse_seeds(seeds),
        classes=class_ or (),
        trunc=trunc,
        grid=parse_grid(grid) if grid else None,
    )
    draw_samples(options)


def interpolate(
    network: Network,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("interpolation.png"),
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-3",
    steps: Annotated[int, typer.Option(help="Pictures from one class to the next.")] = 8,
) -> None:
    """Walks from class to class, the style held fixed."""
    from hmgan.commands.interpolate import InterpolateOptions, draw_interpolation
    from hmgan.commands.seeds import parse_seeds

    draw_interpolation(InterpolateOptions(network=network, out=out, seeds=parse_seeds(seeds), steps=steps))


def export(
    network: Annotated[Path, typer.Argument(help="A run directory, whose newest snapshot is taken, or a snapshot.")],
    out: Annotated[Path, typer.Argument(help="A new folder, laid out as model hubs want it.")],
    class_: Annotated[
        str | None,
        typer.Option("--class", help="Fold this class into plain weights, for `train --source` and `sample`."),
    ] = None,
    licence: Annotated[str, typer.Option(help="For the model card, as hubs abbreviate it.")] = "other",
) -> None:
    """Writes a trained generator with its model card, or one of its classes as an unconditional source."""
    from hmgan.commands.export import ExportOptions
    from hmgan.commands.export import export as run

    run(ExportOptions(network=network, out=out, cls=class_, licence=licence))


def mix(
    network: Network,
    outdir: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("mixes"),
    seeds: Seeds = "0-7",
    with_: Annotated[
        str | None, typer.Option("--with", help="Seeds whose fine style the seeds are drawn with.")
    ] = None,
    crossover: Annotated[int | None, typer.Option(help="First block of the fine style; left out: the middle.")] = None,
    class_: Classes = None,
    trunc: Trunc = 1.0,
) -> None:
    """Draws classes by styles; with --with, per class the coarse style of one seed and the fine style of another."""
    from hmgan.commands.mix import MixOptions, draw_mixes
    from hmgan.commands.seeds import parse_seeds

    options = MixOptions(
        network=network,
        outdir=outdir,
        seeds=parse_seeds(seeds),
        fine=parse_seeds(with_) if with_ is not None else None,
        crossover=crossover,
        classes=class_ or (),
        trunc=trunc,
    )
    draw_mixes(options)
