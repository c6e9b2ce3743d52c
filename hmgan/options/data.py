"""Options of the verbs for registry and images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from hmgan.options.shared import Set


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
