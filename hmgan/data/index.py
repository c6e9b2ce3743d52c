"""The index beside the shards: where every image lies, and its label. N samples."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from hmgan.errors import UserError

FORMAT = "hmgan-shards/1"
JSON, ARRAYS = "index.json", "index.safetensors"
DTYPES = {"shard": np.int32, "offset": np.int64, "length": np.int32, "label": np.int32}
AGAIN = "pack the data again with `hmgan pack`"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file."""

    name: str
    bytes: int
    sha256: str
    samples: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """A packed data set.

    Shapes: shard, offset, length, label are [N]; offset and length speak of the image's bytes inside its tar.
    """

    root: Path
    resolution: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # samples of each class
    skipped: int  # unreadable images that the packing left out
    shards: tuple[Shard, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    label: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.label)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in DTYPES}

    @cached_property
    def digest(self) -> str:
        """sha256 over the content. File names are left out: a renamed copy is the same data set."""
        head = [FORMAT, self.resolution, self.classes, [(s.bytes, s.sha256, s.samples) for s in self.shards]]
        digest = hashlib.sha256(json.dumps(head).encode())
        for name, array in self.arrays().items():
            digest.update(name.encode() + array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write through a temporary file, so that PATH holds either its old content or all of the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_index(index: Index) -> None:
    """Write both files into `index.root`; the JSON comes last, so its presence says that all is there."""
    arrays = safetensors.numpy.save({k: np.ascontiguousarray(v, DTYPES[k]) for k, v in index.arrays().items()})
    write_atomic(index.root / ARRAYS, arrays)
    head = {
        "format": FORMAT,
        "resolution": index.resolution,
        "classes": list(index.classes),
        "counts": list(index.counts),
        "skipped": index.skipped,
        "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        "shards": [asdict(shard) for shard in index.shards],
    }
    write_atomic(index.root / JSON, (json.dumps(head, indent=1) + "\n").encode())


def read_index(path: str | Path) -> Index:
    """Read the index in the folder PATH, and check that its parts and the shards' sizes agree.

    Raises: UserError if a file is missing, damaged, of another format, or does not fit the others.
    """
    root = Path(path)
    head = _read_head(root)
    index = _assemble(root, head, _read_arrays(root, head))
    _check(index)
    return index


def _read_head(root: Path) -> Mapping[str, Any]:
    try:
        head = json.loads((root / JSON).read_bytes())
    except OSError as error:
        reason = "no such folder" if not root.exists() else f"no readable {JSON} in it"
        raise UserError(f"{root} is not a packed data set: {reason}; run `hmgan pack SRC {root}` first") from error
    except ValueError as error:
        raise UserError(f"{root / JSON} is damaged: {error}; {AGAIN}") from error
    found = head.get("format") if isinstance(head, dict) else type(head).__name__
    if found != FORMAT:
        raise UserError(f"{root / JSON} must be of format {FORMAT!r}, got {found!r}; {AGAIN}, or update hmgan")
    return head


def _read_arrays(root: Path, head: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    try:
        content = (root / ARRAYS).read_bytes()
    except OSError as error:
        raise UserError(f"{root} is incomplete: no readable {ARRAYS} beside {JSON}; {AGAIN}") from error
    if hashlib.sha256(content).hexdigest() != head.get("arrays_sha256"):
        raise UserError(f"{root / ARRAYS} is damaged or belongs to another {JSON}: its sha256 differs; {AGAIN}")
    try:
        arrays = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise UserError(f"{root / ARRAYS} is damaged: {error}; {AGAIN}") from error
    for name, dtype in DTYPES.items():
        if name not in arrays or arrays[name].dtype != dtype:
            raise UserError(f"{root / ARRAYS} must hold {name} as {np.dtype(dtype)}; {AGAIN}")
    return arrays


def _assemble(root: Path, head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Index:
    try:
        return Index(
            root=root,
            resolution=int(head["resolution"]),
            classes=tuple(head["classes"]),
            counts=tuple(head["counts"]),
            skipped=int(head["skipped"]),
            shards=tuple(Shard(**shard) for shard in head["shards"]),
            **{name: arrays[name] for name in DTYPES},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{root / JSON} is incomplete: {type(error).__name__} {error}; {AGAIN}") from error


def _check(index: Index) -> None:
    lengths = {name: len(array) for name, array in index.arrays().items()}
    lengths["counts"], lengths["shards"] = sum(index.counts), sum(shard.samples for shard in index.shards)
    if len(set(lengths.values())) != 1:
        raise UserError(f"{index.root}: the parts of the index disagree on the number of samples {lengths}; {AGAIN}")
    if len(index.counts) != len(index.classes):
        got = f"{len(index.classes)} classes and {len(index.counts)} counts"
        raise UserError(f"{index.root / JSON} must hold one count per class, got {got}; {AGAIN}")
    for shard in index.shards:
        path = index.root / shard.name
        if not path.is_file():
            raise UserError(f"{index.root} is incomplete: shard {shard.name} is missing; copy it there, or {AGAIN}")
        if (size := path.stat().st_size) != shard.bytes:
            raise UserError(f"shard {path} must be {shard.bytes} bytes, got {size}; copy it again, or {AGAIN}")
