"""Sources of images that are tables and archives: IDX, CSV and JSONL, Hugging Face parquet, WebDataset shards."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hmgan.data.filenames import EXTENSIONS, LITTER_REASON, check_once, ends_in, is_litter, slashed, tars
from hmgan.data.index_files import known_in
from hmgan.data.pack.archives import READERS, check_end
from hmgan.data.pack.image_folders import ImageSource, quick_png, source_of
from hmgan.data.pack.labels import labels_of, labels_or_one_class
from hmgan.data.store.folders import LocalFolder
from hmgan.errors import UserError
from hmgan.files import check_limits

DELIMITERS = ",;\t"  # of a CSV; Excel writes what the language's decimals leave free
ROWS = 256  # of a parquet file that are in memory at a time


class TarSample(NamedTuple):
    """A sample of a shard, and where its image lies there, in bytes."""

    key: str
    label: str | None  # None: it has no .cls
    offset: int
    length: int


def idx(path: Path) -> ImageSource:
    """Opens MNIST's format: NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte beside it, gzipped or not."""
    pixels = _idx(path, 3)
    labels = _idx(path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1")), 1)
    if len(pixels) != len(labels):
        raise UserError(f"{path} holds {len(pixels)} images and {len(labels)} labels; give files of one set")
    keys = [f"{i:08d}" for i in range(len(pixels))]
    found = [(key, partial(_png, pixels[i])) for i, key in enumerate(keys)]
    return source_of(found, labels_of(zip(keys, labels.tolist(), strict=True)))


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
        # Two zeros, the type (8: bytes), the number of dimensions, their sizes.
        if content[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"it must begin with 0 0 8 {dimensions}")
        shape = np.frombuffer(content, ">u4", dimensions, 4).tolist()
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (*READERS, ValueError) as error:
        check_limits(error)
        raise UserError(f"{path} is not a readable IDX file: {error}; give images-idx3 with labels-idx1") from error


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return quick_png(Image.fromarray(pixels))


def listing(path: Path, columns: tuple[str, str] | None) -> ImageSource:
    """Opens a CSV with a header, or a JSONL: a row per image with its path, relative to the file, and its label."""
    image, label = columns or ("path", "label")
    found: list[tuple[str, object]] = []
    for number, row in enumerate(_rows(path), 1):
        name = row.get(image)
        if name in (None, "") or label not in row:
            raise UserError(
                f"row {number} of {path} must have {image!r} and {label!r}, got {', '.join(map(str, row))}; "
                "name the right ones with --image-column and --label-column"
            )
        found.append((str(name), row[label]))
    if not found:
        raise UserError(f"{path} lists no images; give a row per image")
    names, labels = [name for name, _ in found], labels_of(found)
    check_once((name for name, _ in dict.fromkeys(zip(names, labels.texts, strict=True))), str(path))
    return source_of([(name, _beside(path, name).read_bytes) for name in names], labels)


def _beside(table: Path, name: str) -> Path:
    """The file that a table names, relative to it; Windows writes backslashes."""
    path = table.parent / name
    return path if path.exists() else table.parent / slashed(name)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from _decoded_rows(path)
    except UnicodeError as error:
        raise UserError(f"{path} is not a table in UTF-8: {error}; save it as UTF-8") from error
    except csv.Error as error:  # a quotation mark that is never closed would take the rows that follow
        raise UserError(f"{path} is not a table that can be read: {error}; mend it") from error


def _decoded_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            header = file.readline()
            if "\0" in header:
                raise UnicodeError("it holds null characters, as UTF-16 does")
            file.seek(0)
            rows = csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count), strict=True)
            check_once(rows.fieldnames or (), f"the header of {path}")
            yield from rows
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
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise UserError(f"reading {path} needs pyarrow; install hmgan[parquet]") from None
    image, label = columns or ("image", "label")
    found: list[tuple[str, object]] = []
    reads: list[Callable[[], bytes]] = []
    names: list[str] = []
    with ExitStack() as opened:
        spool = opened.enter_context(tempfile.TemporaryFile())
        try:
            for file in [path] if path.is_file() else parquets(path):
                with parquet.ParquetFile(file) as table:
                    names = _class_names(file, table.schema_arrow, image, label)
                    check_once(names, f"the class names of {file}")
                    batches = table.iter_batches(ROWS, columns=[image, label])
                    for row in chain.from_iterable(batch.to_pylist() for batch in batches):
                        picture = row[image]
                        content = picture.get("bytes") if isinstance(picture, dict) else picture
                        content = content if isinstance(content, bytes) else b""  # told when it is packed
                        reads.append(partial(os.pread, spool.fileno(), len(content), spool.tell()))
                        found.append((f"{len(found):08d}", row[label]))
                        spool.write(content)
        except (OSError, ArrowException) as error:
            check_limits(error)
            raise UserError(f"{path} is not readable parquet: {error}; download it again") from error
        spool.flush()
        pictures = [(key, read) for (key, _), read in zip(found, reads, strict=True)]
        return source_of(pictures, labels_of(found, names), order=names, close=opened.pop_all().close)


def parquets(folder: Path) -> list[Path]:
    """The parquet files in a folder, or in its folder `data`."""
    return sorted(path for path in (*folder.glob("*"), *folder.glob("data/*")) if ends_in(path.name, ".parquet"))


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
    names = known_in(LocalFolder(path if path.is_dir() else path.parent)).classes
    found: list[tuple[str, str | None]] = []
    pictures: list[tuple[str, Callable[[], bytes]]] = []
    litter: list[str] = []
    with ExitStack() as opened:
        for tar in [path] if path.is_file() else tars(path):
            file = opened.enter_context(open(tar, "rb")).fileno()
            try:
                for key, label, offset, length in tar_samples(tar, litter):
                    found.append((key, label))
                    pictures.append((key, partial(os.pread, file, length, offset)))
            except (tarfile.TarError, ValueError) as error:
                raise UserError(f"{tar} cannot be packed anew: {error}; mend it or copy it again") from error
        themselves = set(names) <= {label for _, label in found}  # an index of the shards of others has their labels
        labels = labels_or_one_class(found, () if themselves else names)
        others = {LITTER_REASON: litter} if litter else {}
        return source_of(pictures, labels, order=names, close=opened.pop_all().close, passed_over=others)


def tar_samples(tar: Path, litter: list[str]) -> list[TarSample]:
    """Every sample of an uncompressed tar; names of what is litter are added to `litter`.

    Raises: ValueError for a sample that is not whole; tarfile.TarError.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    with tarfile.open(tar, "r:") as file:
        for member in file:
            path = PurePosixPath(slashed(member.name))
            stem, _, extension = path.name.partition(".")
            if not member.isfile():
                continue
            if is_litter(str(path)):
                litter.append(f"{tar.name}/{path}")
            elif extension:
                its = samples.setdefault(key := str(path.parent / stem), {})
                if extension.lower() in its:
                    raise ValueError(f"sample {key} is there twice, with two .{extension}")
                its[extension.lower()] = member
        check_end(file)
        found = []
        for key, members in samples.items():
            images = [member for extension, member in members.items() if f".{extension}" in EXTENSIONS]
            if len(images) != 1:
                raise ValueError(f"sample {key} must have one image, got {', '.join(members)}")
            label = None
            if "cls" in members:
                content = file.extractfile(members["cls"])
                assert content is not None
                label = content.read().decode("utf-8-sig").strip()
            found.append(TarSample(key, label, images[0].offset_data, images[0].size))
    return found
