"""Options of the verbs that train, start trainings, or check what they need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from typer import Argument, Context, Option

from hmgan.options.shared import Batch, Data, Kimg, Metrics, Outdir, Seed, Set, Setting, Source


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
    kimg: Kimg = None
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
    metrics: Metrics = None
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
class LaunchOptions:
    """Trains on many GPUs and machines: accelerate, torchrun, DeepSpeed, SLURM or Kubernetes.

    Its own options come before EXPERIMENT. What comes after is the training's, and is checked before anything starts.

    For example: hmgan launch --target slurm --nodes 2 --gpus 8 --dry-run hyper-mod-b --data fashion-close
    """

    context: Annotated[Context, "of the command, which has the words after EXPERIMENT"]
    experiment: Annotated[str, Argument(metavar="EXPERIMENT [OPTIONS OF hmgan train]")]
    target: Annotated[str, Option(help="local, torchrun, slurm, k8s or deepspeed.")] = "local"
    nodes: Annotated[str, Option(metavar="N|MIN:MAX", help="Machines; of torchrun MIN:MAX, as they come and go.")] = "1"
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
