"""What can be packed, and how it is told apart: a line here for each class of sources.py and tables.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hmgan.data.pack.image_folders import (
    LABELS,
    SHEETS,
    ClassFolders,
    ContactSheets,
    LooseImages,
    Source,
    StyleGanFolder,
    StyleGanZip,
    has_folders,
)
from hmgan.data.pack.tables import Idx, Listing, Parquet, Shards, is_idx, is_listing, is_parquet, is_shards
from hmgan.errors import UserError

Columns = tuple[str, str]  # of the image and of the label


class Kind(NamedTuple):
    matches: Callable[[Path], bool]
    opens: Callable[[Path], Source]


class Table(NamedTuple):
    matches: Callable[[Path], bool]
    opens: Callable[[Path, Columns | None], Source]


# The first match wins.
TABLES: Sequence[Table] = [Table(is_listing, Listing), Table(is_parquet, Parquet)]
SOURCES: Sequence[Kind] = [
    Kind(is_idx, Idx),
    Kind(is_shards, Shards),
    Kind(Path.is_file, StyleGanZip),
    Kind(lambda path: (path / SHEETS).is_file(), ContactSheets),
    Kind(lambda path: (path / LABELS).is_file(), StyleGanFolder),
    Kind(has_folders, ClassFolders),
    Kind(Path.is_dir, LooseImages),
]


def open_source(place: str | Path, columns: Columns | None = None) -> Source:
    """The source at PATH; its `close` is the caller's to call.

    Args:
        columns: of a table, in which the image and the label are; left out: the usual ones.

    Raises: UserError if there is nothing at PATH, or nothing that can be packed.
    """
    path = Path(place)
    for table in TABLES:
        if table.matches(path):
            return table.opens(path, columns)
    if columns is not None:
        raise UserError(f"{path} has no columns; leave --image-column and --label-column out")
    for kind in SOURCES:
        if kind.matches(path):
            return kind.opens(path)
    raise UserError(
        f"{path} does not exist; give a folder of images, a folder per class, a StyleGAN ZIP, IDX, CSV, JSONL, "
        "parquet or WebDataset shards"
    )
