"""The files of an index beside its shards: a JSON and the arrays, written whole and read with every check."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import pairwise
from operator import methodcaller, or_
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from hmgan.data.decode import checked_background
from hmgan.data.index import DTYPES, FORMAT, OPTIONAL, Index, Shard, chunks
from hmgan.data.store.folders import AGAIN, File, Folder, open_folder
from hmgan.data.store.stores import Store
from hmgan.errors import UserError
from hmgan.files import sha256_of_open, write_atomically

JSON, ARRAYS = "index.json", "index.safetensors"
CODES = {np.uint8: "U8", np.int32: "I32", np.int64: "I64", np.uint32: "U32"}  # of safetensors


class _ShardHead(BaseModel):
    """A shard, as the JSON has it."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    bytes: NonNegativeInt
    sha256: str
    samples: NonNegativeInt


class _Head(BaseModel):
    """What the JSON must hold."""

    model_config = ConfigDict(strict=True)
    resolution: PositiveInt
    classes: list[str]
    counts: list[NonNegativeInt]
    skipped: NonNegativeInt
    background: str | None = None
    arrays_sha256: str
    shards: list[_ShardHead]


class Known(BaseModel):
    """What an index says that the shards alone do not."""

    model_config = ConfigDict(strict=True)
    format: Literal["hmgan-shards/1"]
    classes: list[str]
    skipped: NonNegativeInt = 0
    background: str | None = None


def write_index(index: Index, folder: Path, beside: Mapping[str, bytes] | None = None) -> None:
    """Writes the index's files, after those to lie beside them, into a folder of this machine."""
    for name, content in {**(beside or {}), **_files(index)}.items():
        write_atomically(folder / name, methodcaller("write_bytes", content))


def upload_index(index: Index, store: Store, beside: Mapping[str, bytes] | None = None) -> None:
    """Uploads the index's files, after those to lie beside them."""
    for name, content in {**(beside or {}), **_files(index)}.items():
        store.put(name, content)


def _files(index: Index) -> dict[str, bytes]:
    """The files' contents. The JSON comes last, so its presence says that all is there."""
    dtypes = _dtypes(name for name in OPTIONAL if len(getattr(index, name)))
    named = {name: np.ascontiguousarray(getattr(index, name), dtype) for name, dtype in dtypes.items()}
    arrays = safetensors.numpy.save(named)
    head = {
        "format": FORMAT,
        "resolution": index.resolution,
        "classes": list(index.classes),
        "counts": list(index.counts),
        "skipped": index.skipped,
        **({} if index.background is None else {"background": index.background}),
        "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        "shards": [{name: getattr(shard, name) for name in _ShardHead.model_fields} for shard in index.shards],
    }
    return {ARRAYS: arrays, JSON: (json.dumps(head, indent=1) + "\n").encode()}


def read_index(place: str | Path) -> Index:
    """Reads the index in the folder at a path or URL, and checks that its parts and the shards' sizes agree.

    Raises: UserError if a file is missing, damaged, of another format, or does not fit the others.
    """
    return index_in(open_folder(place))


def index_in(folder: Folder) -> Index:
    """Reads the index in a folder that is open already, as `read_index` does."""
    head = _read_head(folder)
    arrays = _map_arrays(folder, head.arrays_sha256)
    index = Index(
        folder=folder,
        resolution=head.resolution,
        classes=tuple(head.classes),
        counts=tuple(head.counts),
        skipped=head.skipped,
        background=None if head.background is None else checked_background(head.background),
        shards=tuple(Shard(**dict(shard), by_parts="crc32" in arrays) for shard in head.shards),
        **arrays,
    )
    _check(index)
    folder.check(index.shards)
    return index


def known_in(folder: Folder) -> Known:
    """What an index that is there says beside its shards: no classes where there is none.

    Raises: UserError for a file of that name that is no index of ours.
    """
    try:
        content = folder.read(JSON)
    except FileNotFoundError:
        return Known(format=FORMAT, classes=[])
    try:
        head = json.loads(content)
    except ValueError as error:
        raise UserError(f"{folder}/{JSON} is damaged: {error}; mend it, or move it away") from error
    try:
        return Known.model_validate(head)
    except ValidationError as error:
        problem = _problem(error)
        raise UserError(f"{folder}/{JSON} is there and no index of hmgan ({problem}); move it away") from error


def _read_head(folder: Folder) -> _Head:
    try:
        content = folder.read(JSON)
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a packed data set: no readable {JSON} in it; pack images with `hmgan pack {folder} DST` "
            f"and give DST, or run `hmgan index {folder}` on shards"
        ) from None
    try:
        head = json.loads(content)
    except ValueError as error:
        raise UserError(f"{folder}/{JSON} is damaged: {error}; {AGAIN}") from error
    found = head.get("format") if isinstance(head, dict) else type(head).__name__
    if found != FORMAT:
        raise UserError(f"{folder}/{JSON} must be of format {FORMAT!r}, got {found!r}; {AGAIN}, or update hmgan")
    try:
        return _Head.model_validate(head)
    except ValidationError as error:
        raise UserError(f"{folder}/{JSON} is incomplete or damaged: {_problem(error)}; {AGAIN}") from error


def _problem(error: ValidationError) -> str:
    """Where the first is, and what."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _map_arrays(folder: Folder, sha256: str) -> dict[str, NDArray[Any]]:
    """The arrays as views of their file, read lazily."""
    try:
        size = folder.size(ARRAYS)
    except FileNotFoundError:
        raise UserError(f"{folder} is incomplete: no readable {ARRAYS} beside {JSON}; {AGAIN}") from None
    with os.fdopen(folder.open(File(name=ARRAYS, bytes=size, sha256=sha256)), "rb") as file:
        if sha256_of_open(file.fileno()) != sha256:
            raise UserError(f"{folder}/{ARRAYS} is damaged or belongs to another {JSON}: its sha256 differs; {AGAIN}")
        # The safetensors format: the length of a JSON header, the header, then the arrays.
        start = 8 + int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(start - 8))
        dtypes = _dtypes(name for name in OPTIONAL if name in entries)
        for name, dtype in dtypes.items():
            if entries.get(name, {}).get("dtype") != CODES[dtype]:
                raise UserError(f"{folder}/{ARRAYS} must hold {name} as {np.dtype(dtype)}; {AGAIN}")
        return {
            name: np.asarray(
                np.memmap(file, dtype, "r", start + entries[name]["data_offsets"][0], tuple(entries[name]["shape"]))
            )
            for name, dtype in dtypes.items()
        }


def _check(index: Index) -> None:
    lengths = {name: len(array) for name, array in index.arrays().items()}
    lengths["counts"], lengths["shards"] = sum(index.counts), sum(shard.samples for shard in index.shards)
    if len(set(lengths.values())) != 1:
        raise UserError(f"{index.folder}: the parts of the index disagree on the number of samples {lengths}; {AGAIN}")
    if len(index.key_end) not in (0, len(index)) or (len(index.key_end) and index.key_end[-1] != len(index.key)):
        raise UserError(f"{index.folder}: the index must hold a key for each of {len(index)} samples; {AGAIN}")
    if index.crc32.shape not in ((0,), (len(index),)):
        raise UserError(f"{index.folder}: the index must hold a crc32 for each of {len(index)} samples; {AGAIN}")
    if len(index.counts) != len(index.classes):
        got = f"{len(index.classes)} classes and {len(index.counts)} counts"
        raise UserError(f"{index.folder}/{JSON} must hold one count per class, got {got}; {AGAIN}")
    bounds = np.cumsum([0, *(shard.samples for shard in index.shards)])
    for number, (first, end) in enumerate(pairwise(bounds.tolist())):
        if first < end and not index.shard[first] == index.shard[end - 1] == number:
            raise UserError(f"{index.folder}: samples {first} to {end - 1} must be of shard {number}; {AGAIN}")
    counts = np.zeros(len(index.classes), np.int64)
    for labels in chunks(index.label):
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(counts):
            got = f"{labels.min()} to {labels.max()} with {len(counts)} classes"
            raise UserError(f"{index.folder}: labels must be numbers of classes, got {got}; {AGAIN}")
        counts += np.bincount(labels, minlength=len(counts))
    if tuple(counts.tolist()) != index.counts:
        raise UserError(f"{index.folder}/{JSON} counts {index.counts}, the labels {tuple(counts.tolist())}; {AGAIN}")


def _dtypes(optional: Iterable[str]) -> dict[str, Any]:
    """Of the arrays that every index has, and of these."""
    return reduce(or_, map(OPTIONAL.__getitem__, optional), DTYPES)
