"""`hmgan pack`, `hmgan index` and `hmgan data`. Heavy imports live inside the commands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmgan.errors import UserError

if TYPE_CHECKING:
    from hmgan.data.pack.image_folders import Source

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
    from hmgan.data.pack.kinds import open_source
    from hmgan.data.pack.pack import pack as pack_images

    if (image_column is None) != (label_column is None):
        raise UserError("--image-column and --label-column go together; give both or none")
    if recipe is None:
        if split is not None or accept_counts:
            raise UserError("--split and --accept-counts are of a recipe; name one with --recipe, or leave them out")
        columns = (image_column, label_column) if image_column and label_column else None
        opens: Callable[[Path], Source] = partial(open_source, columns=columns)
    else:
        if image_column is not None:
            raise UserError("--image-column and --label-column are of a table, not of a recipe; leave them out")
        opens, resolution = _followed(recipe, split, accept_counts, resolution)
    index = pack_images(
        src,
        out,
        resolution=resolution,
        name=name,
        opens=opens,
        threads=threads,
        pad=pad,
        fit=fit,
        extension=format_,
        quality=quality,
        shard_samples=shard_samples,
    )
    counts = ", ".join(f"{cls} {count}" for cls, count in zip(index.classes, index.counts, strict=True))
    typer.echo(f"{out}: {sum(index.counts)} images of {index.resolution} px in {len(index.shards)} shards ({counts})")
    if index.skipped:
        typer.echo(f"left out because they cannot be read, and named above: {index.skipped}", err=True)


def _followed(
    name: str, split: str | None, accept_counts: bool, resolution: int | None
) -> tuple[Callable[[Path], Source], int]:
    """What opens the archive of a recipe, and the resolution."""
    from hmgan.config import entries
    from hmgan.data.pack.recipes import Prepared, Recipe

    recipe = Recipe.model_validate(entries.entry("recipe", name))
    accept = partial(typer.echo, err=True) if accept_counts else None
    opens = partial(Prepared, name=name, recipe=recipe, split=split, accept=accept)
    return opens, resolution or recipe.resolution


def index(
    place: Annotated[str, typer.Argument(help="A folder or URL of WebDataset shards.")],
    classes: Annotated[str | None, typer.Option(help="Names of the classes 0, 1, ..., joined by commas.")] = None,
) -> None:
    """Writes the index beside shards that others made."""
    from hmgan.data.shards import ShardSet
    from hmgan.data.tools import described, make_index

    made = make_index(place, classes.split(",") if classes else None, report=typer.echo)
    typer.echo("\n".join(described(ShardSet(made))))


@looks.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A folder, a URL, or a name of `hmgan list datasets`.")],
    grid: Annotated[Path | None, typer.Option(help="Draw the first images of each class into this PNG.")] = None,
) -> None:
    """Counts, sizes, a histogram of the classes and a picture of them."""
    from hmgan.data.named import open_data
    from hmgan.data.tools import described
    from hmgan.pictures.grids import GRID_COLUMNS, class_grid
    from hmgan.pictures.images import save_png

    images = open_data(data)
    typer.echo("\n".join(described(images)))
    if grid is not None:
        save_png(class_grid(images.examples(GRID_COLUMNS)), grid)


@looks.command()
def verify(data: Annotated[str, typer.Argument(help="A folder or URL.")]) -> None:
    """Reads every byte and decodes every image."""
    from hmgan.data.tools import verify as check

    if wrong := check(data, report=typer.echo):
        raise UserError(f"{len(wrong)} things are wrong, such as: {wrong[0]}")
