"""`hmgan export` and `hmgan mix` on the command line. Heavy imports live inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Network = Annotated[Path, typer.Option(help="A run directory, a snapshot or a source.")]


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
    from hmgan.commands.export import export as run

    run(network, out, class_, licence)
    print(out)


def mix(
    network: Network,
    outdir: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("mixes"),
    seeds: Annotated[str, typer.Option(help="For example 0,1,4-6.")] = "0-7",
    with_: Annotated[
        str | None, typer.Option("--with", help="Seeds whose fine style the seeds are drawn with.")
    ] = None,
    crossover: Annotated[int | None, typer.Option(help="First block of the fine style; left out: the middle.")] = None,
    class_: Annotated[list[str] | None, typer.Option("--class", help="A class; repeatable; left out: all.")] = None,
    trunc: Annotated[float, typer.Option(help="Truncation; 1 is none.")] = 1.0,
) -> None:
    """Draws classes by styles; with --with, per class the coarse style of one seed and the fine style of another."""
    from hmgan.commands.mix import draw_mixes

    draw_mixes(network, outdir, seeds, with_, crossover, class_, trunc)
