"""The options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override any setting; repeatable.")]
Outdir = Annotated[Path, typer.Option(help="Folder that run directories are made in.")]
Data = Annotated[
    list[str] | None,
    typer.Option(help="Packed images: a folder, a URL, or a name of `hmgan list datasets`; repeatable: as one set."),
]
SourceName = Annotated[str | None, typer.Option("--source", help="A source folder, or a name of `hmgan list sources`.")]
Kimg = Annotated[float | None, typer.Option(help="Thousands of real images to train for.")]
Batch = Annotated[int | None, typer.Option(help="Images per step, over all ranks.")]
Gamma = Annotated[float | None, typer.Option(help="R1 weight; left out: 0.0002 * resolution^2 / batch.")]
Mirror = Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="Flip half of the real images.")]
Aug = Annotated[str | None, typer.Option(help="What D sees images through: a name of `hmgan list augments`.")]
Snap = Annotated[float | None, typer.Option(help="Kimg between snapshots.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Workers = Annotated[int | None, typer.Option(help="Loader processes per rank.")]
Metrics = Annotated[int | None, typer.Option(help="Fakes per class to score at every snapshot; 0: no scores.")]
Resume = Annotated[str | None, typer.Option(help="A run directory, `latest`, or `auto`: this very run if begun.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be trained, and train nothing.")]
Network = Annotated[Path, typer.Option(help="A run directory, a snapshot or a source.")]
Seeds = Annotated[str, typer.Option(help="For example 0,1,4-6.")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="A class; repeatable; left out: all.")]
Trunc = Annotated[float, typer.Option(help="Truncation; 1 is none.")]
