"""The command line. Heavy imports live inside the commands, so that --help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hmgan import __version__
from hmgan.cli import data, launch, models
from hmgan.errors import UserError

# What a mistake on the command line itself raises: UsageError, which typer does not export by name.
WrongUse: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="hmgan",
    help="Class-conditional GANs from unconditional ones, by hyper-modulation.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hmgan {__version__}")
        raise typer.Exit


@app.callback()
def common(
    registry: Annotated[list[Path] | None, typer.Option(help="Folder with registry entries of your own.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Class-conditional GANs from unconditional ones, by hyper-modulation."""
    if registry:
        from hmgan.config import entries

        for folder in registry:
            entries.add(folder)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="For example experiments; left out: all kinds.")] = None,
) -> None:
    """The registry: what can be named in an experiment or on the command line."""
    from hmgan.commands.listing import print_list

    print_list(kind)


@app.command()
def show(name: str, set_: Set = None) -> None:
    """A registry entry; of an experiment or a component every setting, what it means and its default."""
    from hmgan.commands.show import print_entry

    print_entry(name, set_ or [])


app.command()(data.pack)
app.command()(data.index)
app.add_typer(data.looks, name="data")


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the public StyleGAN port.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the source.")],
    resolution: Annotated[int | None, typer.Option(help="Output pixels; left out: the highest in the file.")] = None,
    stddev_group: Annotated[int, typer.Option(help="Of D's minibatch deviation; 0: the batch, as the port has.")] = 0,
) -> None:
    """Reads a foreign checkpoint into safetensors, with a report of every tensor."""
    from hmgan.importers.convert import import_checkpoint

    import_checkpoint(checkpoint, out, resolution=resolution, stddev_group=stddev_group)


@app.command()
def pretrain(
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
) -> None:
    """Trains an unconditional GAN from scratch: a source, or the from-scratch baseline."""
    _train("pretrain", **locals())


@app.command()
def align(
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
) -> None:
    """Self-alignment (Eq. 6): pulls random heads to the source, without images; only the classes come from --data."""
    _train("align", **locals())


@app.command()
def train(
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
) -> None:
    """Transfers a source to the classes of --data."""
    _train("transfer", **locals())


def _train(task: str, **options: Any) -> None:
    from hmgan.train.command import train as run

    run(task, options)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory, a snapshot or a source.")],
    data: Annotated[str | None, typer.Option(help="Images to score against; left out: those of the training.")] = None,
    per_class: Annotated[int | None, typer.Option(help="Fakes per class; left out: as many as real images.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fakes.")] = 1_000_000,
    trunc: Annotated[float, typer.Option(help="Truncation; 1 is none.")] = 1.0,
    extractor: Annotated[str, typer.Option(help="Feature extractor.")] = "squeezenet",
    metrics: Annotated[
        str, typer.Option(help="Any of fd,kd,kd-subsets,prdc,diversity,ppl,leakage, joined by commas.")
    ] = "fd,kd",
    perceptual: Annotated[str, typer.Option(help="Network of diversity and ppl.")] = "squeezenet-layers",
) -> None:
    """Scores per class and their means; left to itself, Frechet and kernel distance."""
    from hmgan.commands.listing import print_scores

    print_scores(run, data, per_class, seed, trunc, extractor, metrics.split(","), perceptual)


@app.command()
def sample(
    network: Network,
    outdir: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("samples"),
    seeds: Annotated[str, typer.Option(help="For example 0,1,4-6.")] = "0-7",
    class_: Annotated[list[str] | None, typer.Option("--class", help="A class; repeatable; left out: all.")] = None,
    trunc: Annotated[float, typer.Option(help="Truncation; 1 is none.")] = 1.0,
    grid: Annotated[str | None, typer.Option(help="One picture of COLUMNSxROWS instead of single ones.")] = None,
) -> None:
    """Draws images."""
    from hmgan.commands.sample import draw_samples

    draw_samples(network, outdir, seeds, class_, trunc, grid)


@app.command()
def interpolate(
    network: Network,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("interpolation.png"),
    seeds: Annotated[str, typer.Option(help="One row each.")] = "0-3",
    steps: Annotated[int, typer.Option(help="Pictures from one class to the next.")] = 8,
) -> None:
    """Walks from class to class, the style held fixed."""
    from hmgan.commands.sample import draw_interpolation

    draw_interpolation(network, out, seeds, steps)


@app.command()
def demo(
    outdir: Annotated[Path, typer.Option(help="A new folder for the demo.")] = Path("demo"),
    experiment: Annotated[str, typer.Option(help="The transfer to show.")] = "demo",
    seed: Seed = None,
    set_: Set = None,
) -> None:
    """Transfers the embedded clothing GAN to shoes and bags, and writes a report; minutes on two CPU cores."""
    from hmgan.commands.demo import run_demo

    run_demo(outdir, experiment, set_ or [], seed)


@app.command()
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
    from hmgan.commands.sample import parse_seeds
    from hmgan.study.run import Order
    from hmgan.study.run import compare as run

    order = Order(
        study,
        outdir or Path("studies") / study,
        rows=rows.split(",") if rows else None,
        targets=targets.split(",") if targets else None,
        seeds=parse_seeds(seeds) if seeds else None,
        overrides=set_ or (),
        workers=workers,
        minutes=minutes,
    )
    if run(order, report_only=report_only, dry_run=dry_run):
        raise SystemExit(1)


app.command()(models.export)
app.command()(models.mix)
app.command(context_settings=launch.TRAINS_OPTIONS)(launch.launch)


@app.command()
def doctor(
    experiment: Annotated[str | None, typer.Argument(help="An experiment that has to fit into memory.")] = None,
    outdir: Outdir = Path("runs"),
    data: Data = None,
    source: SourceName = None,
    batch: Batch = None,
    set_: Set = None,
) -> None:
    """Whether machine, ranks and storage are fit to train: one page, exit code 0 if so. Start it as training is."""
    options = locals()
    from hmgan.doctor.command import doctor as run

    if not run(options):
        raise SystemExit(1)


def main() -> None:
    """The `hmgan` command. A mistake of the user's is one line and exit code 2."""
    try:
        app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except WrongUse as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:
        print("aborted", file=sys.stderr)
        sys.exit(1)
