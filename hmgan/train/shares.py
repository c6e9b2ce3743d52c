"""Checkpoints that every rank writes its share of, by torch.distributed.checkpoint: safetensors and JSON, no pickles.

The layout is that of torch's HuggingFaceStorageWriter, whose reader takes it too: a file of each rank, and in its
header where in the whole tensors its own begin. (That writer holds a second copy of all, hashes nothing, and came with
torch 2.9.)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from hmgan.files import flush, put, refused_as, sha256_of
from hmgan.train.engines.base import Places

PLACES, OFFSETS = "DCP_SHARDING_INFO", "saved_offsets"
HEADER = {"DCP_VERSION": "1.0", "format": "pt"}
Seal = Callable[[Path, dict[str, str]], None]


class Written(NamedTuple):
    """A file of a checkpoint."""

    name: str
    sha256: str


class Writer(StorageWriter):
    """Writes a folder of shares, whole or not at all.

    Args:
        folder: the same on all ranks, on a file system that they share.
        seal: called on the first rank with the folder that is being filled, and the sha256 of each file in it by name:
            writes what is beside them.
    """

    def __init__(self, folder: Path, seal: Seal) -> None:
        self._folder, self._seal = folder, seal

    @property
    def partial(self) -> Path:
        """Where the first rank has the files until they are whole."""
        return self._folder.with_name(f".{self._folder.name}.{os.getpid()}.partial")

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing: a writer is of one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing: ranks differ in what they are called for."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        with refused_as(self._folder):
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
        names = (f"share-{number:05d}-of-{len(plans):05d}.safetensors" for number in range(1, len(plans) + 1))
        return [replace(plan, storage_data=self.partial / name) for plan, name in zip(plans, names, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        path, places, tensors = plan.storage_data, dict[str, Any](), dict[str, Tensor]()
        for item in plan.items:
            assert item.tensor_data is not None  # no entry holds anything else
            places[item.index.fqn] = {OFFSETS: list(item.tensor_data.chunk.offsets)}
            tensors[item.index.fqn] = cast(Tensor, planner.resolve_data(item))
        with refused_as(self._folder):
            save_file(dict(apart(tensors)), path, {**HEADER, PLACES: json.dumps(places)})
            flush(path)
            written = Written(path.name, sha256_of(path))
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(item.index, tensors[item.index.fqn].nbytes, written) for item in plan.items])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        with refused_as(self._folder):
            self._seal(self.partial, dict(sorted({result.storage_data for each in results for result in each})))
            put(self.partial, self._folder)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return True


def apart(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Each in memory of its own, as safetensors wants them; what has it already is not copied."""
    taken = set[int]()
    for name, x in tensors.items():
        storage = x.untyped_storage()
        own = x.is_contiguous() and storage.nbytes() == x.nbytes and storage.data_ptr() not in taken
        taken.add(storage.data_ptr())
        yield name, x if own else x.contiguous().clone()


class Stored:
    """A folder of shares, whose tensors stay on the disk until they are asked for.

    Args:
        names: its files.

    Raises: SafetensorError, KeyError or ValueError for files that no Writer wrote.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._pieces: dict[str, dict[tuple[int, ...], Tensor]] = {}
        self.kinds: dict[str, str] = {}  # of numbers, by safetensors' names
        for path in (folder / name for name in names):
            with safe_open(path, "pt") as file:
                places = json.loads(file.metadata()[PLACES])
                self.kinds |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, x in load_file(path).items():  # mapped, not read
                self._pieces.setdefault(name, {})[tuple(places[name][OFFSETS])] = x

    def wholes(self, prefix: str) -> dict[str, Tensor]:
        """The whole tensors whose names begin so, on the meta device, by the rest of their names."""
        found = {name: x for name, x in self._pieces.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): whole_of(pieces) for name, pieces in found.items()}

    def whole(self, name: str) -> Tensor:
        """One whole tensor."""
        whole = torch.empty_like(whole_of(self._pieces[name]), device="cpu")
        for at, x in self._pieces[name].items():
            whole[tuple(slice(first, first + size) for first, size in zip(at, x.shape, strict=True))] = x
        return whole

    def taken(self, prefix: str, places: Places) -> dict[str, Tensor]:
        """The tensors whose names begin so, read into the places that these want, of a world of any size."""
        wanted = places(self.wholes(prefix))
        named = {f"{prefix}{name}": x for name, x in wanted.items()}
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        planner.set_up_planner(named, Metadata({name: described(self._pieces[name]) for name in named}), True)
        for item in planner.create_local_plan().items:
            piece = self._pieces[item.storage_index.fqn][offset_of(item.storage_index)]
            ranges = zip(item.storage_offsets, item.lengths, strict=True)
            planner.resolve_tensor(item).copy_(piece[tuple(slice(first, first + size) for first, size in ranges)])
        return wanted


def whole_of(pieces: Mapping[tuple[int, ...], Tensor]) -> Tensor:
    """The whole that pieces at these offsets make, on the meta device."""
    ends = ([first + size for first, size in zip(at, x.shape, strict=True)] for at, x in pieces.items())
    shape = [max(sizes) for sizes in zip(*ends, strict=True)]
    return torch.empty(shape, dtype=next(iter(pieces.values())).dtype, device="meta")


def described(pieces: Mapping[tuple[int, ...], Tensor]) -> TensorStorageMetadata:
    """The same as torch's planners want it."""
    whole = whole_of(pieces)
    chunks = [ChunkStorageMetadata(torch.Size(at), x.shape) for at, x in pieces.items()]
    return TensorStorageMetadata(TensorProperties(dtype=whole.dtype), whole.shape, chunks)


def offset_of(index: MetadataIndex) -> tuple[int, ...]:
    """Where a piece begins in the whole."""
    assert index.offset is not None  # of a tensor
    return tuple(index.offset)
