"""Options of the verbs that draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from hmgan.options.shared import Classes, Device, Model, Network, Seeds, Towards, Trunc


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleOptions:
    """Draws images.

    For example: hmgan sample fashion-32 --seeds 0-31 --grid 8x4
    """

    model: Model = None
    network: Network = None
    outdir: Annotated[Path, Option(help="Folder for the pictures.")] = Path("samples")
    seeds: Seeds = "0-7"
    classes: Classes = field(default_factory=list)
    trunc: Trunc = 1.0
    towards: Towards = "mean"
    grid: Annotated[str | None, Option(help="One picture of COLUMNSxROWS instead of single ones.")] = None
    latents: Annotated[
        Path | None, Option(help="A .npy or .npz of latents [N, Z] or styles [N, K, W], in place of seeds.")
    ] = None
    noise: Annotated[
        Literal["random", "const", "none"], Option(help="The seed's own, the same for all seeds, or none.")
    ] = "random"
    extension: Annotated[str, Option("--format", help="png, jpg or webp.")] = "png"
    device: Device = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateOptions:
    """Walks through classes, styles or both; a strip in a PNG, or a film in a GIF, WebP or MP4.

    For example: hmgan interpolate fashion-32 --through z --seeds 0,1,2,0 --out walk.webp
    """

    model: Model = None
    network: Network = None
    out: Annotated[Path, Option(help="The picture.")] = Path("interpolation.png")
    seeds: Annotated[str, Option(help="One row each.")] = "0-3"
    steps: Annotated[int, Option(min=1, max=1000, help="Pictures from one station to the next.")] = 8
    through: Annotated[
        Literal["classes", "z", "both"],
        Option(help="What changes: classes per seed, seeds per class, or both at once."),
    ] = "classes"
    classes: Annotated[list[str], Option("--class", help="A station, or with z a row; repeatable; left out: all.")] = (
        field(default_factory=list)
    )
    spherical: Annotated[bool, Option("--spherical", help="Along great circles in place of lines.")] = False
    trunc: Trunc = 1.0
    device: Device = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MixOptions:
    """Draws classes by styles; with --with, per class the coarse style of one seed and the fine style of another.

    For example: hmgan mix fashion-32 --seeds 0-3 --with 4-9
    """

    model: Model = None
    network: Network = None
    outdir: Annotated[Path, Option(help="Folder for the pictures.")] = Path("mixes")
    seeds: Seeds = "0-7"
    fine: Annotated[str | None, Option("--with", help="Seeds whose fine style the seeds are drawn with.")] = None
    crossover: Annotated[int | None, Option(min=1, help="First block of the fine style; left out: the middle.")] = None
    classes: Classes = field(default_factory=list)
    trunc: Trunc = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectOptions:
    """Finds the styles, one per block, with which a model draws an image; the class is found too, or given.

    For example: hmgan project fashion-32 photograph.png --out found
    """

    model: Annotated[Path, Argument(help="As for `hmgan sample`.")]
    image: Annotated[Path, Argument(help="A picture; its middle square is taken.")]
    out: Annotated[Path, Option(help="Folder for styles.npy and projected.png.")] = Path("projected")
    cls: Annotated[str | None, Option("--class", help="Left out: the one whose images are nearest.")] = None
    steps: Annotated[int, Option(min=0, max=10_000, help="Of Adam.")] = 300
    device: Device = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExploreOptions:
    """Serves a page to explore models with: classes, blends, styles, truncation; several are shown side by side.

    For example: hmgan explore runs/00003 fashion-32
    """

    models: Annotated[list[Path], Argument(metavar="MODEL...", help="As for `hmgan sample`; one or more.")]
    port: Annotated[int, Option(min=0, max=65535, help="0: any that is free.")] = 8765
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1"
    names: Annotated[
        list[str], Option("--name", help="A name of this machine that browsers may ask for; repeatable.")
    ] = field(default_factory=list)
    browser: Annotated[bool, Option("--browser/--no-browser", help="Open the page in a browser.")] = True
