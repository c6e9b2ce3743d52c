"""`hmgan pack`, `hmgan index` and `hmgan data`. Heavy imports live inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

looks = typer.Typer(help="Looks at packed images.", no_args_is_help=True)


def pack(
    src: Annotated[
        Path,
        typer.Argument(
            help="A folder per class, a StyleGAN ZIP, IDX images, a CSV or JSONL of path and label, parquet, shards, "
            "or the archive of a recipe."
        ),
    ],
    out: Annotated[str, typer.Argument(help="A new folder for shards and index, or a URL such as s3://bucket/name.")],
    recipe: Annotated[str | None, typer.Option(help="How to read SRC: a name of `hmgan list recipes`.")] = None,
    split: Annotated[str | None, typer.Option(help="Of the recipe; left out: the one it is made for.")] = None,
    accept_counts: Annotated[
        bool, typer.Option("--accept-counts", help="Pack images whose number is not what the recipe expects.")
    ] = False,
    resolution: Annotated[
        int | None, typer.Option(help="Pixels, a power of two; left out: the recipe's, or the images' own.")
    ] = None,
    pad: Annotated[int, typer.Option(help="Pixels of border on every side, in place of resizing.")] = 0,
    fit: Annotated[str, typer.Option(help="Squares: crop takes the middle, pad adds a border.")] = "crop",
    format_: Annotated[str, typer.Option("--format", help="Of the images in the shards: png, jpg or webp.")] = "png",
    quality: Annotated[int, typer.Option(help="Of jpg and webp.")] = 95,
    shard_samples: Annotated[int, typer.Option(help="Images per shard.")] = 1000,
    name: Annotated[str | None, typer.Option(help="Name of the shards; left out: the folder's.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Of a table; left out: path, or image in parquet.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Of a table; left out: label.")] = None,
    threads: Annotated[int | None, typer.Option(help="Left out: one per core.")] = None,
) -> None:
    """Turns images into WebDataset shards with an index. Killed, it goes on with the same command."""
    from hmgan.commands.pack import PackOptions, pack_images

    options = PackOptions(
        src=src,
        out=out,
        recipe=recipe,
        split=split,
        accept_counts=accept_counts,
        resolution=resolution,
        pad=pad,
        fit=fit,
        extension=format_,
        quality=quality,
        shard_samples=shard_samples,
        name=name,
        image_column=image_column,
        label_column=label_column,
        threads=threads,
    )
    pack_images(options)


def index(
    place: Annotated[str, typer.Argument(help="A folder or URL of WebDataset shards.")],
    classes: Annotated[str | None, typer.Option(help="Names of the classes 0, 1, ..., joined by commas.")] = None,
) -> None:
    """Writes the index beside shards that others made."""
    from hmgan.commands.data import index as run

    run(place, classes.split(",") if classes else None)


@looks.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A folder, a URL, or a name of `hmgan list datasets`.")],
    grid: Annotated[Path | None, typer.Option(help="Draw the first images of each class into this PNG.")] = None,
) -> None:
    """Counts, sizes, a histogram of the classes and a picture of them."""
    from hmgan.commands.data import inspect as run

    run(data, grid)


@looks.command()
def verify(data: Annotated[str, typer.Argument(help="A folder or URL.")]) -> None:
    """Reads every byte and decodes every image."""
    from hmgan.commands.data import verify as run

    run(data)
