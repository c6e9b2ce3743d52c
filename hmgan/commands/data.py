"""`hmgan index` and `hmgan data`: indexing shards that others made, and looking at and checking packed images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hmgan.data.named import open_data
from hmgan.data.shards import ShardSet
from hmgan.data.tools import described, make_index
from hmgan.data.tools import verify as wrongs
from hmgan.errors import UserError
from hmgan.pictures.grids import GRID_COLUMNS, class_grid, shown, which
from hmgan.pictures.images import check_png, save_png


def index(place: str, classes: Sequence[str] | None, background: str | None, leave_out_unlabelled: bool) -> None:
    """Writes the index beside shards and describes them; the classes have the names given, or those in the shards."""
    found = make_index(place, classes, background=background, leave_out_unlabelled=leave_out_unlabelled)
    print("\n".join(described(ShardSet(found))))


def inspect(name: str, grid: Path | None) -> None:
    """Describes a data set, and draws the first images of each class into the PNG `grid`, if one is given."""
    if grid is not None:
        check_png(grid)
    images = open_data(name)
    print("\n".join(described(images)))
    if grid is not None:
        some = shown(images.classes, images.resolution)
        save_png(class_grid(images.examples(GRID_COLUMNS, some)), grid)
        if left_out := which(some, images.classes):
            print(left_out)


def verify(place: str) -> None:
    """Reads every byte and decodes every image. Raises UserError where anything is wrong."""
    if wrong := wrongs(place):
        raise UserError(f"{len(wrong)} things are wrong, such as: {wrong[0]}")
