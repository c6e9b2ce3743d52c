"""`hmgan pack`: images into shards, read by a recipe or as what they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hmgan.config import entries
from hmgan.data.pack.image_folders import ImageSource
from hmgan.data.pack.kinds import open_source
from hmgan.data.pack.pack import pack
from hmgan.data.pack.recipes import Recipe, recipe_source
from hmgan.errors import UserError, one_line, some_of
from hmgan.options.data import PackOptions


def pack_images(options: PackOptions) -> None:
    """Packs, and prints what was packed.

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
        background=options.background,
        leave_out_unlabelled=options.leave_out_unlabelled,
    )
    counts = some_of(f"{cls} {count}" for cls, count in zip(index.classes, index.counts, strict=True))
    shards = len(index.shards)
    total = f"{sum(index.counts)} images of {index.resolution} px in {shards} shards"
    print(one_line(f"{options.out}: {total} ({counts})"))
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
