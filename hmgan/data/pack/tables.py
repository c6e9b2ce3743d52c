"""Sources of images that are tables and archives: IDX, CSV and JSONL, Hugging Face parquet, WebDataset shards."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.pack.archives import check_end
from hmgan.data.pack.image_folders import EXTENSIONS, ImageSource, Item, class_order, quick_png
from hmgan.errors import UserError
from hmgan.types import UNLABELLED

INDEX = "index.json"
ROWS = 256  # of a parquet file that are in memory at a time


class TarSample(NamedTuple):
    """A sample of a shard, and where its image lies there, in bytes."""

    key: str
    label: str
    offset: int
    length: int


def idx(path: Path) -> ImageSource:
    """Opens MNIST's format: NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte beside it, gzipped or not."""
    pixels = _idx(path, 3)
    labels = _idx(path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1")), 1)
    if len(pixels) != len(labels):
        raise UserError(f"{path} holds {len(pixels)} images and {len(labels)} labels; give files of one set")
    return _listed([Item(f"{i:08d}", str(label), partial(_png, pixels[i])) for i, label in enumerate(labels.tolist())])


def _listed(items: Sequence[Item]) -> ImageSource:
    """The source whose classes are those of its items."""
    return ImageSource(items, class_order(item.label for item in items))


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        # Two zeros, the type (8: bytes), the number of dimensions, their sizes.
        if content[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"it must begin with 0 0 8 {dimensions}")
        shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is not a readable IDX file: {error}; give images-idx3 with labels-idx1") from error


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return quick_png(Image.fromarray(pixels))


def listing(path: Path, columns: tuple[str, str] | None) -> ImageSource:
    """Opens a CSV with a header, or a JSONL: a row per image with its path, relative to the file, and its label."""
    image, label = columns or ("path", "label")
    items = []
    for number, row in enumerate(_rows(path), 1):
        name, cls = row.get(image), row.get(label)
        if name in (None, "") or cls in (None, ""):
            raise UserError(
                f"row {number} of {path} must have {image!r} and {label!r}, got {', '.join(map(str, row))}; "
                "name the right ones with --image-column and --label-column"
            )
        items.append(Item(str(name), str(cls), (path.parent / str(name)).read_bytes))
    if not items:
        raise UserError(f"{path} lists no images; give a row per image")
    return _listed(items)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"line {number} of {path} is not JSON: {error}; mend it") from error
            if not isinstance(row, dict):
                raise UserError(f"line {number} of {path} must be an object {{...}}, got {type(row).__name__}; mend it")
            yield row


def parquet_files(path: Path, columns: tuple[str, str] | None) -> ImageSource:
    """Opens a parquet file or a folder of them, as on the Hugging Face Hub: images as bytes, labels by name or number.

    The images are copied into a temporary file: shards ask for them in another order, and a parquet file can only be
    read row group by row group.
    """
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise UserError(f"reading {path} needs pyarrow; install hmgan[parquet]") from None
    image, label = columns or ("image", "label")
    items: list[Item] = []
    names: list[str] = []
    with ExitStack() as opened:
        spool = opened.enter_context(tempfile.TemporaryFile())
        try:
            for file in [path] if path.is_file() else parquets(path):
                with parquet.ParquetFile(file) as table:
                    names = _class_names(file, table.schema_arrow, image, label)
                    batches = table.iter_batches(ROWS, columns=[image, label])
                    for row in chain.from_iterable(batch.to_pylist() for batch in batches):
                        picture, number = row[image], row[label]
                        content = (picture["bytes"] if isinstance(picture, dict) else picture) or b""
                        read = partial(os.pread, spool.fileno(), len(content), spool.tell())
                        items.append(Item(f"{len(items):08d}", names[number] if names else str(number), read))
                        spool.write(content)
        except (OSError, ArrowInvalid) as error:
            raise UserError(f"{path} is not readable parquet: {error}; download it again") from error
        spool.flush()
        used = {item.label for item in items}
        classes = tuple(name for name in names if name in used) or class_order(used)
        return ImageSource(items, classes, opened.pop_all().close)


def parquets(folder: Path) -> list[Path]:
    """The parquet files in a folder, or in its folder `data`."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _class_names(file: Path, schema: Any, image: str, label: str) -> list[str]:
    """The names of the label numbers, in order, where Hugging Face wrote them. Refuses a table without the columns."""
    if missing := {image, label}.difference(schema.names):
        raise UserError(
            f"{file} has no column {min(missing)!r}, but {', '.join(schema.names)}; "
            "name the right ones with --image-column and --label-column"
        )
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return list(features.get(label, {}).get("names") or [])


def shards(path: Path) -> ImageSource:
    """Opens WebDataset shards, to pack them anew: an image and a .cls per key. An index of ours names the classes."""
    names = json.loads((path / INDEX).read_bytes())["classes"] if (path / INDEX).is_file() else None
    items: list[Item] = []
    with ExitStack() as opened:
        for tar in [path] if path.is_file() else sorted(path.glob("*.tar")):
            file = opened.enter_context(open(tar, "rb")).fileno()
            try:
                for key, label, offset, length in tar_samples(tar):
                    name = names[int(label)] if names else label
                    items.append(Item(key, name, partial(os.pread, file, length, offset)))
            except (tarfile.TarError, ValueError, IndexError) as error:
                raise UserError(f"{tar} cannot be packed anew: {error}; copy it again") from error
        return ImageSource(items, tuple(names or class_order(item.label for item in items)), opened.pop_all().close)


def tar_samples(tar: Path) -> list[TarSample]:
    """Every sample of an uncompressed tar.

    Raises: ValueError for a sample that is not whole; tarfile.TarError.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    with tarfile.open(tar, "r:") as file:
        for member in file:
            path = PurePosixPath(member.name)
            key, _, extension = path.name.partition(".")
            if member.isfile() and extension:
                samples.setdefault(str(path.parent / key), {})[extension] = member
        check_end(file)
        found = []
        for key, members in samples.items():
            images = [member for extension, member in members.items() if f".{extension.lower()}" in EXTENSIONS]
            if len(images) != 1:
                raise ValueError(f"sample {key} must have one image, got {', '.join(members)}")
            label = UNLABELLED
            if "cls" in members:
                content = file.extractfile(members["cls"])
                assert content is not None
                label = content.read().decode().strip()
            found.append(TarSample(key, label, images[0].offset_data, images[0].size))
    return found
