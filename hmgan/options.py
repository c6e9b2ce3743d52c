"""The options of every verb, each declared once: what the command line offers, and what the code behind it is handed.

The docstring of a class is the help of its verb. A field without typer's annotation is not on the command line.
Every number has bounds: its own, or those of the setting that it stands for.
Nothing heavier than typer is imported here: `--help` reads this file.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from typer import Argument, Context, Option

from hmgan.errors import UserError

MOST_SEEDS = 1_000_000  # of one command


class Setting(NamedTuple):
    """The setting of an experiment, `table.key`, that an option stands for; the option has its unit."""

    path: str


Set = Annotated[list[str], Option("--set", metavar="A.B=C", help="Override any setting; repeatable.")]
Outdir = Annotated[Path, Option(help="Folder that run directories are made in.")]
Data = Annotated[
    list[str] | None,
    Option(help="Packed images: a folder, a URL, or a name of `hmgan list datasets`; repeatable: as one set."),
    Setting("data.sources"),
]
Source = Annotated[str | None, Option(help="A source folder, or a name of `hmgan list sources`."), Setting("source")]
Batch = Annotated[int | None, Option(help="Images per step, over all ranks."), Setting("train.batch")]
Seed = Annotated[int | None, Option(help="Seed of everything random."), Setting("train.seed")]
Model = Annotated[
    Path | None,
    Argument(help="A run, a snapshot, an exported folder, OWNER/NAME of a hub, or one of `hmgan list sources`."),
]
Network = Annotated[Path | None, Option(help="MODEL, by its older name.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1, ...; left out: a GPU where there is one.")]
Seeds = Annotated[str, Option(help="For example 0,1,4-6.")]
Classes = Annotated[list[str], Option("--class", help="A class; repeatable; left out: all.")]
Trunc = Annotated[float, Option(min=-10, max=10, help="Truncation; 1 is none.")]
Towards = Annotated[
    Literal["mean", "class"],
    Option(help="What it pulls to: the mean of all styles, or the class's centre (`hmgan centres`)."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowOptions:
    """A registry entry; of an experiment or a component every setting, what it means and its default.

    For example: hmgan show hyper-mod-b
    """

    name: Annotated[str, Argument()]
    overrides: Set = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """Turns images into WebDataset shards with an index. Killed, it goes on with the same command.

    For example: hmgan pack photographs shards --resolution 32
    """

    src: Annotated[
        Path,
        Argument(
            help="A folder per class, a StyleGAN ZIP, IDX images, a CSV or JSONL of path and label, parquet, shards, "
            "or the archive of a recipe."
        ),
    ]
    out: Annotated[str, Argument(help="A new folder for shards and index, or a URL such as s3://bucket/name.")]
    recipe: Annotated[str | None, Option(help="How to read SRC: a name of `hmgan list recipes`.")] = None
    split: Annotated[str | None, Option(help="Of the recipe; left out: the one it is made for.")] = None
    accept_counts: Annotated[
        bool, Option("--accept-counts", help="Pack images whose number is not what the recipe expects.")
    ] = False
    resolution: Annotated[
        int | None, Option(min=4, max=4096, help="Pixels, a power of two; left out: the recipe's, or the images' own.")
    ] = None
    pad: Annotated[int, Option(min=0, max=8192, help="Pixels of border on every side, in place of resizing.")] = 0
    fit: Annotated[str, Option(help="Squares: crop takes the middle, pad adds a border.")] = "crop"
    extension: Annotated[str, Option("--format", help="Of the images in the shards: png, jpg or webp.")] = "png"
    quality: Annotated[int, Option(min=1, max=100, help="Of jpg and webp.")] = 95
    shard_samples: Annotated[int, Option(min=1, help="Images per shard.")] = 1000
    background: Annotated[str, Option(help="Colour behind transparent pixels.")] = "white"
    leave_out_unlabelled: Annotated[
        bool,
        Option("--leave-out-unlabelled", help="Pack the others where some images have no label; else refused."),
    ] = False
    name: Annotated[str | None, Option(help="Name of the shards; left out: the folder's.")] = None
    image_column: Annotated[str | None, Option(help="Of a table; left out: path, or image in parquet.")] = None
    label_column: Annotated[str | None, Option(help="Of a table; left out: label.")] = None
    threads: Annotated[int | None, Option(min=1, max=1024, help="Left out: one per core.")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Transfers a source to the classes of --data.

    For example: hmgan train hyper-mod-b --data fashion-close --kimg 10
    """

    verb: ClassVar[str] = "train"
    experiment: Annotated[
        str | None, Argument(help="A name of `hmgan list experiments`; with --resume RUN it may be left out.")
    ] = None
    outdir: Outdir = Path("runs")
    data: Data = None
    source: Source = None
    kimg: Annotated[float | None, Option(help="Thousands of real images to train for."), Setting("train.kimg")] = None
    batch: Batch = None
    gamma: Annotated[
        float | None, Option(help="R1 weight; left out: 0.0002 * resolution^2 / batch."), Setting("r1.gamma")
    ] = None
    mirror: Annotated[
        bool | None, Option("--mirror/--no-mirror", help="Flip half of the real images."), Setting("loader.mirror")
    ] = None
    aug: Annotated[
        str | None, Option(help="What D sees images through: a name of `hmgan list augments`."), Setting("augment.name")
    ] = None
    snap: Annotated[float | None, Option(help="Kimg between snapshots."), Setting("train.snap")] = None
    metrics: Annotated[
        int | None,
        Option(help="Fakes per class to score at every snapshot; 0: no scores."),
        Setting("evaluation.per_class"),
    ] = None
    seed: Seed = None
    workers: Annotated[int | None, Option(help="Loader processes per rank."), Setting("loader.workers")] = None
    resume: Annotated[str | None, Option(help="A run directory, `latest`, or `auto`: this very run if begun.")] = None
    overrides: Set = field(default_factory=list)
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Say what would be trained, and train nothing.")] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainOptions(TrainOptions):
    """Trains an unconditional GAN from scratch: a source, or the from-scratch baseline.

    For example: hmgan pretrain pretrain-fashion-32 --data fashion-close --kimg 10
    """

    verb: ClassVar[str] = "pretrain"
    source: None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignOptions(TrainOptions):
    """Self-alignment (Eq. 6): pulls random heads to the source, without images; only the classes come from --data.

    For example: hmgan align hyper-mod-c-align --data fashion-close
    """

    verb: ClassVar[str] = "align"
    experiment: Annotated[
        str | None,
        Argument(help="A transfer experiment whose heads are aligned to its source; with --resume RUN not needed."),
    ] = None
    gamma: None = None
    mirror: None = None
    aug: None = None
    metrics: None = None
    workers: None = None


TRAINING = {options.verb: options for options in (PretrainOptions, AlignOptions, TrainOptions)}


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """Scores per class and their means; left to itself, Frechet and kernel distance.

    For example: hmgan evaluate runs/00003 --per-class 500 --metrics fd,kd
    """

    run: Annotated[
        Path, Argument(metavar="MODEL", help="As for `hmgan sample`: a run, a folder, a source, OWNER/NAME.")
    ]
    data: Annotated[str | None, Option(help="Images to score against; left out: those of the training.")] = None
    per_class: Annotated[int | None, Option(min=2, help="Fakes per class; left out: as many as real images.")] = None
    seed: Annotated[int, Option(min=0, help="Seed of the fakes.")] = 1_000_000
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
class ExportOptions:
    """Writes a trained generator with its model card, or one of its classes as an unconditional source.

    For example: hmgan export runs/00003 bags --licence cc-by-4.0
    """

    network: Annotated[Path, Argument(metavar="MODEL", help="As for `hmgan sample`; of a run the newest snapshot.")]
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
class DemoOptions:
    """Transfers the embedded clothing GAN to shoes and bags, and writes a report; minutes on two CPU cores.

    For example: hmgan demo --outdir demo
    """

    outdir: Annotated[Path, Option(help="A new folder for the demo.")] = Path("demo")
    experiment: Annotated[str | None, Option(help="The transfer to show; left out: demo.")] = None
    seed: Seed = None
    resume: Annotated[str | None, Option(help="The run directory of a demo that was stopped, or `latest`.")] = None
    overrides: Set = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """Trains a study's methods on its targets, going on where it was stopped, and reports them side by side.

    Several processes, on one machine or on several, may run the same study in the same folder.

    For example: hmgan compare smoke --dry-run
    """

    study: Annotated[str, Argument(help="A name of `hmgan list studies`.")]
    outdir: Annotated[Path | None, Option(help="Folder of the study; left out: studies/STUDY.")] = None
    rows: Annotated[str | None, Option(help="Only these methods, for example hyper-mod-b,adain.")] = None
    targets: Annotated[str | None, Option(help="Only these targets.")] = None
    seeds: Annotated[str | None, Option(help="Only these seeds, for example 0,2-4.")] = None
    workers: Annotated[str | None, Option(help="Cells at once: a number, cpu:N or cuda:N, or both: cuda:3,cpu:2.")] = (
        None
    )
    minutes: Annotated[float | None, Option(min=0, help="Stop after so long, to be gone on with.")] = None
    report_only: Annotated[bool, Option("--report-only", help="Run nothing; report what is finished.")] = False
    overrides: Set = field(default_factory=list)
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Say how far each cell is; run nothing.")] = False
    paths: bool = False  # measure path lengths, too

    @property
    def folder(self) -> Path:
        """The study's."""
        return self.outdir or Path("studies") / self.study

    def line(self) -> str:
        """The command that makes the whole study, as the report quotes it."""
        given = "".join(f" --set {shlex.quote(override)}" for override in self.overrides)
        return f"hmgan compare {self.study} --outdir {self.folder}{given}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchOptions:
    """Trains on many GPUs and machines: accelerate, torchrun, DeepSpeed, SLURM or Kubernetes.

    Its own options come before EXPERIMENT. What comes after is the training's, and is checked before anything starts.

    For example: hmgan launch --target slurm --nodes 2 --gpus 8 --dry-run hyper-mod-b --data fashion-close
    """

    context: Annotated[Context, "of the command, which has the words after EXPERIMENT"]
    experiment: Annotated[str, Argument(metavar="EXPERIMENT [OPTIONS OF hmgan train]")]
    target: Annotated[str, Option(help="local, torchrun, slurm, k8s or deepspeed.")] = "local"
    nodes: Annotated[int, Option(min=1, help="Machines.")] = 1
    gpus: Annotated[int | None, Option(min=1, help="Ranks per machine; left out: this one's GPUs, or 1.")] = None
    image: Annotated[str, Option(help="Container image of Kubernetes pods.")] = "hmgan:latest"
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Print what would be run; run nothing.")] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorOptions:
    """Whether machine, ranks and storage are fit to train: one page, exit code 0 if so. Start it as training is.

    For example: hmgan doctor hyper-mod-b --data fashion-close
    """

    experiment: Annotated[
        str | None, Argument(help="An experiment that has to fit into memory, or a source that has to vary.")
    ] = None
    outdir: Outdir = Path("runs")
    data: Data = None
    source: Source = None
    batch: Batch = None
    overrides: Set = field(default_factory=list)


def model_of(model: Path | None, network: Path | None) -> Path:
    """The model that a command names, as its argument or by --network. Raises UserError for none, and for both."""
    if (model is None) == (network is None):
        got = "none" if model is None else f"{model} and --network {network}"
        raise UserError(f"name one model: a run, a folder, a source or OWNER/NAME of a hub; got {got}")
    return model or network or Path()


def parse_seeds(text: str) -> list[int]:
    """`0,1,4-6` -> [0, 1, 4, 5, 6]. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--seeds wants numbers and ranges such as 0,1,4-6, got {text!r}")
        span = range(int(match[1]), int(match[2] or match[1]) + 1)
        if span.stop - span.start + len(seeds) > MOST_SEEDS:
            raise UserError(f"--seeds names more than {MOST_SEEDS:,} seeds, got {text!r}; draw them in parts")
        seeds += span
    return seeds


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

    For example: hmgan classes runs/00003 rename bee wasp --out wasps
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
    kimg: Annotated[float | None, Option(min=0, help="Thousands of real images to train for.")] = None
    metrics: Annotated[int | None, Option(min=0, help="Fakes to score at every snapshot; 0: no scores.")] = None
    seed: Annotated[int | None, Option(min=0, help="Seed of everything random.")] = None
    overrides: Set = field(default_factory=list)


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
