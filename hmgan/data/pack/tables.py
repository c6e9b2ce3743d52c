"""Sources whose images lie in tables and archives: IDX, CSV and JSONL, Hugging Face parquet, WebDataset shards."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.pack.archives import check_end
from hmgan.data.pack.image_folders import EXTENSIONS, Item, class_order
from hmgan.errors import UserError
from hmgan.types import UNLABELLED

INDEX = "index.json"
ROWS = 256  # of a parquet file that are in memory at a time


class _Listed:
    """Items that are known in advance."""

    def __init__(self, items: list[Item], classes: Sequence[str] | None = None) -> None:
        self._items = items
        self.classes = class_order(item.label for item in items) if classes is None else tuple(classes)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def close(self) -> None: ...


class Idx(_Listed):
    """MNIST's format: NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte beside it, gzipped or not."""

    def __init__(self, path: Path) -> None:
        pixels = _idx(path, 3)
        labels = _idx(path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1")), 1)
        if len(pixels) != len(labels):
            raise UserError(f"{path} holds {len(pixels)} images and {len(labels)} labels; give files of one set")
        super().__init__(
            [Item(f"{i:08d}", str(label), partial(_png, pixels[i])) for i, label in enumerate(labels.tolist())]
        )


def is_idx(path: Path) -> bool:
    return path.is_file() and "images" in path.name and "idx3" in path.name


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
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Listing(_Listed):
    """A CSV with a header, or a JSONL: a row per image with its path, relative to the file's folder, and its label."""

    def __init__(self, path: Path, columns: tuple[str, str] | None) -> None:
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
        super().__init__(items)


def is_listing(path: Path) -> bool:
    return path.is_file() and path.suffix in (".csv", ".jsonl")


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


class Parquet(_Listed):
    """A parquet file or a folder of them, as Hugging Face's data sets are: images as bytes, labels as names or numbers.

    The images are copied into a temporary file: shards ask for them in another order, and a parquet file can only be
    read row group by row group.
    """

    def __init__(self, path: Path, columns: tuple[str, str] | None) -> None:
        try:
            from pyarrow import ArrowInvalid, parquet
        except ImportError:
            raise UserError(f"reading {path} needs pyarrow; install hmgan[parquet]") from None
        image, label = columns or ("image", "label")
        files = [path] if path.is_file() else _parquets(path)
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115
        items: list[Item] = []
        names: list[str] = []
        try:
            for file in files:
                with parquet.ParquetFile(file) as table:
                    if missing := {image, label}.difference(table.schema_arrow.names):
                        raise UserError(
                            f"{file} has no column {min(missing)!r}, but {', '.join(table.schema_arrow.names)}; "
                            "name the right ones with --image-column and --label-column"
                        )
                    names = _class_names(table.schema_arrow.metadata, label)
                    for batch in table.iter_batches(ROWS, columns=[image, label]):
                        items += map(partial(self._item, len(items), names), *(_numbered(batch, image, label)))
        except (OSError, ArrowInvalid) as error:
            self.close()
            raise UserError(f"{path} is not readable parquet: {error}; download it again") from error
        except UserError:
            self.close()
            raise
        self._spool.flush()
        used = {item.label for item in items}
        super().__init__(items, [name for name in names if name in used] or None)

    def _item(self, first: int, names: Sequence[str], number: int, image: Any, label: Any) -> Item:
        content = image["bytes"] if isinstance(image, dict) else image
        offset = self._spool.tell()
        self._spool.write(content or b"")
        name = names[label] if names else str(label)
        read = partial(os.pread, self._spool.fileno(), len(content or b""), offset)
        return Item(f"{first + number:08d}", name, read)

    def close(self) -> None:
        self._spool.close()


def is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet" or (path.is_dir() and bool(_parquets(path)))


def _parquets(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _numbered(batch: Any, image: str, label: str) -> tuple[range, list[Any], list[Any]]:
    return range(batch.num_rows), batch.column(image).to_pylist(), batch.column(label).to_pylist()


def _class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str]:
    """The names behind label numbers, where Hugging Face wrote them; they are in the order of the numbers."""
    features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return list(features.get(label, {}).get("names") or [])


class Shards(_Listed):
    """WebDataset shards, to pack them anew: an image and a .cls per key. An index of ours names the classes."""

    def __init__(self, path: Path) -> None:
        names = json.loads((path / INDEX).read_bytes())["classes"] if (path / INDEX).is_file() else None
        self._files: list[int] = []
        items: list[Item] = []
        for tar in [path] if path.is_file() else sorted(path.glob("*.tar")):
            self._files.append(os.open(tar, os.O_RDONLY))
            try:
                items += [
                    Item(key, names[int(label)] if names else label, partial(os.pread, self._files[-1], size, offset))
                    for key, label, offset, size in tar_samples(tar)
                ]
            except (tarfile.TarError, ValueError, IndexError) as error:
                self.close()
                raise UserError(f"{tar} cannot be packed anew: {error}; copy it again") from error
        super().__init__(items, names)

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


def is_shards(path: Path) -> bool:
    return path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar")))


def tar_samples(tar: Path) -> list[tuple[str, str, int, int]]:
    """Key, label, and the image's offset and size, of every sample of an uncompressed tar.

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
            found.append((key, label, images[0].offset_data, images[0].size))
    return found
