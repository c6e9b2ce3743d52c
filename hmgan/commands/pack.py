"""`hmgan pack`: images into shards, as a recipe says or as their kind does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hmgan.config import entries
from hmgan.data.pack.image_folders import ImageSource
from hmgan.data.pack.kinds import open_source
from hmgan.data.pack.pack import pack
from hmgan.data.pack.recipes import Recipe, recipe_source
from hmgan.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """What `hmgan pack` was asked for.

    Args:
        src: what holds the images.
        out: a new folder for shards and index, or a URL.
        recipe: how to read src; None: as whichever kind it is.
        split: of the recipe; None: the one it is made for.
        accept_counts: pack images whose number is not what the recipe expects.
        resolution: pixels; None: the recipe's, or the images' own.
        pad: pixels of border on every side, in place of resizing.
        fit: how images become squares, "crop" or "pad".
        extension, quality: of the images in the shards.
        shard_samples: images per shard.
        name: of the shards; None: the folder's.
        image_column, label_column: of a table; None: the usual ones.
        threads: None: one per core.
    """

    src: Path
    out: str
    recipe: str | None
    split: str | None
    accept_counts: bool
    resolution: int | None
    pad: int
    fit: str
    extension: str
    quality: int
    shard_samples: int
    name: str | None
    image_column: str | None
    label_column: str | None
    threads: int | None


def pack_images(options: PackOptions) -> None:
    """Packs, and says what there is now.

    Raises: UserError for options that do not go together, and whatever `pack` refuses.
    """
    opens, resolution = reader(options)
    index = pack(
        options.src,
        options.out,
        resolution=resolution,
        name=options.name,
        opens=opens,
        threads=options.threads,
        pad=options.pad,
        fit=options.fit,
        extension=options.extension,
        quality=options.quality,
        shard_samples=options.shard_samples,
    )
    counts = ", ".join(f"{cls} {count}" for cls, count in zip(index.classes, index.counts, strict=True))
    shards = len(index.shards)
    print(f"{options.out}: {sum(index.counts)} images of {index.resolution} px in {shards} shards ({counts})")
    if index.skipped:
        print(f"left out because they cannot be read, and named above: {index.skipped}", file=sys.stderr)


def reader(options: PackOptions) -> tuple[Callable[[Path], ImageSource], int | None]:
    """What opens the source, and the resolution."""
    image, label = options.image_column, options.label_column
    if (image is None) != (label is None):
        raise UserError("--image-column and --label-column go together; give both or none")
    if options.recipe is not None:
        if image is not None:
            raise UserError("--image-column and --label-column are of a table, not of a recipe; leave them out")
        return followed(options, options.recipe)
    if options.split is not None or options.accept_counts:
        raise UserError("--split and --accept-counts are of a recipe; name one with --recipe, or leave them out")
    columns = (image, label) if image and label else None
    return partial(open_source, columns=columns), options.resolution


def followed(options: PackOptions, name: str) -> tuple[Callable[[Path], ImageSource], int]:
    """What opens the archive of a recipe, and the resolution."""
    recipe = Recipe.model_validate(entries.entry("recipe", name))
    accept = partial(print, file=sys.stderr) if options.accept_counts else None
    opens = partial(recipe_source, name=name, recipe=recipe, split=options.split, accept=accept)
    return opens, options.resolution or recipe.resolution
