"""What can be packed, and how it is told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hmgan.data.filenames import tars
from hmgan.data.pack.image_folders import (
    LABELS,
    SHEETS,
    ImageSource,
    class_folders,
    contact_sheets,
    folders,
    loose_images,
    stylegan_folder,
    stylegan_zip,
)
from hmgan.data.pack.tables import idx, listing, parquet_files, parquets, shards
from hmgan.errors import UserError

Columns = tuple[str, str]  # of the image and of the label
Matches = Callable[[Path], bool]

# The first match wins.
TABLES: Sequence[tuple[Matches, Callable[[Path, Columns | None], ImageSource]]] = [
    (lambda path: path.suffix.lower() in (".csv", ".jsonl") and path.is_file(), listing),
    (lambda path: path.suffix.lower() == ".parquet" or bool(parquets(path)), parquet_files),
]
KINDS: Sequence[tuple[Matches, Callable[[Path], ImageSource]]] = [
    (lambda path: path.is_file() and "images" in path.name and "idx3" in path.name, idx),
    (lambda path: path.suffix.lower() == ".tar" or bool(tars(path)), shards),
    (Path.is_file, stylegan_zip),
    (lambda path: (path / SHEETS).is_file(), contact_sheets),
    (lambda path: (path / LABELS).is_file(), stylegan_folder),
    (lambda path: path.is_dir() and bool(folders(path)), class_folders),
    (Path.is_dir, loose_images),
]


def open_source(place: str | Path, columns: Columns | None = None) -> ImageSource:
    """Opens the source at a path; the caller closes it.

    Args:
        columns: of a table, in which the image and the label are; left out: the usual ones.

    Raises: UserError if there is nothing at the path, or nothing that can be packed.
    """
    path = Path(place)
    for matches, opens_table in TABLES:
        if matches(path):
            return opens_table(path, columns)
    if columns is not None:
        raise UserError(f"{path} has no columns; leave --image-column and --label-column out")
    for matches, opens in KINDS:
        if matches(path):
            return opens(path)
    raise UserError(
        f"{path} does not exist; give a folder of images, a folder per class, a StyleGAN ZIP, IDX, CSV, JSONL, "
        "parquet or WebDataset shards"
    )
