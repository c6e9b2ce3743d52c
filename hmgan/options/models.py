"""Options of the verbs that score, change or hand on a trained model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from hmgan.options.shared import LAST_SEED, Device, Kimg, Metrics, Outdir, Seed, Set, Trunc


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """Scores per class and their means; left to itself, Frechet and kernel distance.

    For example: hmgan evaluate runs/00003 --per-class 500 --metrics fd,kd
    """

    run: Annotated[
        Path, Argument(metavar="MODEL", help="As for `hmgan sample`: a run, a folder, a source, OWNER/NAME.")
    ]
    data: Annotated[str | None, Option(help="Images to score against; left out: those of the training.")] = None
    per_class: Annotated[
        int | None, Option(min=2, max=1_000_000, help="Fakes per class; left out: as many as real images.")
    ] = None
    seed: Annotated[int, Option(min=0, max=LAST_SEED, help="Seed of the fakes.")] = 1_000_000
    trunc: Trunc = 1.0
    extractor: Annotated[str, Option(help="Feature extractor, or several, joined by commas.")] = "squeezenet"
    metrics: Annotated[
        str,
        Option(help="Any of fd,kd,kd-subsets,kd-scaled,prdc,rank,spread,diversity,ppl,leakage, joined by commas."),
    ] = "fd,kd"
    references: Annotated[
        bool, Option(help="Beside it: other real images, one and three of them repeated, and the source.")
    ] = True
    perceptual: Annotated[str, Option(help="Network of diversity and ppl.")] = "squeezenet-layers"


@dataclass(frozen=True, kw_only=True, slots=True)
class CentresOptions:
    """Finds the centre of what each class draws well, the mean style of the images that D ranks highest, and keeps it.

    For example: hmgan centres runs/00003
    """

    model: Annotated[Path, Argument(help="A run, or a snapshot in one that has its checkpoint still: D is in that.")]
    draws: Annotated[int, Option(min=1, max=1_000_000, help="Images of each class that D looks at, 32 at once.")] = 2000
    keep: Annotated[float, Option(min=0, max=1, help="Share of them, the best, whose styles are averaged.")] = 0.1
    device: Device = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesOptions:
    """A model's classes: list, add IMAGES, drop NAME, rename OLD NEW. Classes that are left draw what they drew.

    For example: hmgan classes runs/00003 add wasp --out with-wasp
    """

    model: Annotated[Path, Argument(help="As for `hmgan sample`.")]
    action: Annotated[str, Argument(help="list, add, drop or rename.")]
    names: Annotated[
        list[str],
        Argument(
            metavar="[IMAGES|NAME|OLD NEW]", help="IMAGES: a folder of one class, packed or not, or a run of add."
        ),
    ] = field(default_factory=list)
    out: Annotated[Path | None, Option(help="A new folder for the model.")] = None
    start: Annotated[str, Option(help="Of add: nearest, source, or a class.")] = "nearest"
    experiment: Annotated[str, Option(help="How a class is trained.")] = "add-class"
    outdir: Outdir = Path("runs")
    kimg: Kimg = None
    metrics: Metrics = None
    seed: Seed = None
    overrides: Set = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """Writes a trained generator with its model card, or one of its classes as an unconditional source.

    For example: hmgan export runs/00003 bags --licence cc-by-4.0
    """

    network: Annotated[
        Path,
        Argument(
            metavar="MODEL",
            help="As for `hmgan sample`; of a run the newest snapshot. Or a checkpoint of shares, to be made whole.",
        ),
    ]
    out: Annotated[Path, Argument(help="A new folder, laid out as model hubs want it.")]
    cls: Annotated[
        str | None,
        Option("--class", help="Fold this class into plain weights, for `train --source` and `sample`."),
    ] = None
    layout: Annotated[
        Literal["ada", "rosinality"] | None,
        Option(help="Beside it, of a StyleGAN2 (ada: or 3), the state dict that users of that code load."),
    ] = None
    licence: Annotated[str, Option(help="For the model card, as hubs abbreviate it.")] = "other"
    fp16: Annotated[bool, Option("--fp16", help="Keep numbers in half precision: half the size.")] = False
    onnx: Annotated[
        bool, Option("--onnx", help="Beside it model.onnx, of one class or a source, checked with onnxruntime.")
    ] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PushOptions:
    """Uploads an exported folder to a model hub, as the user who is logged in there.

    For example: hmgan push bags anna/bags --dry-run
    """

    folder: Annotated[Path, Argument(help="What `hmgan export` wrote.")]
    repository: Annotated[str, Argument(metavar="OWNER/NAME", help="Made if it is not there.")]
    private: Annotated[bool, Option("--private", help="A new repository that others cannot see.")] = False
    message: Annotated[str, Option(help="Of the commit.")] = "Upload by hmgan"
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Say what would be uploaded; upload nothing.")] = False
