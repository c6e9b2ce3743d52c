"""All that a run resumes from, exactly: networks, optimisers, moving averages, step. Safetensors and JSON, atomic.

Random streams and the position in the data are functions of (seed, step): the step stands for them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmgan.errors import UserError
from hmgan.files import readable, sha256_of, write_folder_atomically
from hmgan.train.engines.base import Checkpointed, Places, empty

TENSORS, STATE = "state.safetensors", "state.json"
GROUPS = "param_groups"  # what only an optimiser's state has
Entries = Mapping[str, Checkpointed]
Taker = Callable[[str, Places], dict[str, Tensor]]


class CheckpointError(UserError):
    """Its files are not what was written."""


class _State(BaseModel):
    """What the JSON must hold, and may."""

    model_config = ConfigDict(strict=True)
    step: NonNegativeInt
    kimg: NonNegativeFloat = 0.0
    groups: dict[str, list[dict[str, Any]]]
    sha256: str | None = None  # of the tensors
    shares: dict[str, str] = {}  # the sha256 of each file, where every rank wrote one
    digest: str | None = None  # of the rest; older checkpoints have none
    data: str | None = None
    scored: str | None = None
    undrawn: bool = False
    nonfinite: list[int] | None = Field(None, min_length=3, max_length=3)


class Copy(NamedTuple):
    """What a checkpoint holds, on the CPU and apart from the networks."""

    tensors: dict[str, Tensor]
    groups: dict[str, Any]


def copy_of(entries: Entries) -> Copy:
    """A copy of named networks and optimisers."""
    copy = Copy({}, {})
    for name, entry in entries.items():
        own = flat(name, entry.state_dict())
        # Into memory of their own: safetensors refuses tensors that share it, as expanded or tied ones do.
        copy.tensors.update({key: torch.empty(x.shape, dtype=x.dtype).copy_(x) for key, x in own.tensors.items()})
        copy.groups.update(own.groups)
    return copy


def flat(name: str, state: Mapping[str, Any]) -> Copy:
    """A named state, as a checkpoint has it, uncopied."""
    groups: dict[str, Any] = {}
    if GROUPS in state:  # an optimiser's
        groups[name] = state[GROUPS]
        state = {f"{index}.{key}": x for index, slots in state["state"].items() for key, x in slots.items()}
    return Copy({f"{name}/{key}": x for key, x in state.items()}, groups)


def write(folder: Path, copy: Copy, state: Mapping[str, Any]) -> None:
    """A checkpoint, whole or not at all. Raises UserError if it cannot be written."""

    def fill(partial: Path) -> None:
        save_file(copy.tensors, partial / TENSORS)
        seal(partial, {**state, "groups": copy.groups, "sha256": sha256_of(partial / TENSORS)})

    try:
        write_folder_atomically(folder, fill)
    except (OSError, SafetensorError) as error:
        raise refused(folder, error) from error


def seal(partial: Path, state: Mapping[str, Any]) -> None:
    """Writes what is beside the tensors, and its digest."""
    (partial / STATE).write_text(json.dumps({**state, "digest": _digest(state)}) + "\n", encoding="utf-8")


def refused(folder: Path, error: BaseException) -> UserError:
    """That a checkpoint cannot be written."""
    reason = str(error).partition(f": '{folder}'")[0]  # which is named already
    text = f"checkpoint {folder} cannot be written: {reason}; those before it are whole: make room, and --resume"
    return UserError(text)


def load(folder: Path, entries: Entries, verified: bool = False) -> dict[str, Any]:
    """Restores the entries in place and returns the saved state.

    Args:
        verified: another rank has just read all of the shares, which this one does not read all of.

    Raises: CheckpointError, with nothing changed; UserError for a checkpoint of other networks.
    """
    state = read(folder, verified)
    taken = _taker(folder, state)
    for name, entry in entries.items():
        own = taken(f"{name}/", _places_of(entry))
        try:
            groups = state["groups"].get(name)
            entry.load_state_dict(own if groups is None else _unflatten(own, groups))
        except UserError:  # an engine's own line
            raise
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: {name} does not fit this experiment ({str(error).splitlines()[0]})") from None
    return state


def read(folder: Path, verified: bool = False) -> dict[str, Any]:
    """The saved state of a checkpoint that is whole. Raises CheckpointError; UserError for what cannot be opened."""
    try:
        with readable(folder):  # what cannot be opened is not damaged
            state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
            known = _State.model_validate(state)
            files = {} if known.shares and verified else known.shares or {TENSORS: known.sha256 or ""}
            whole = known.digest in (None, _digest(state))
            whole = whole and all(sha256_of(folder / name) == digest for name, digest in files.items())
    except UserError:
        raise
    except (FileNotFoundError, ValueError):  # ValidationError among them
        whole = False
    if not whole:
        raise CheckpointError(f"checkpoint {folder} is damaged: its checksum does not match")
    return state


def _places_of(entry: Checkpointed) -> Places:
    """Asked for where there are shares alone: a module as it is, which has none, can be read from whole tensors."""
    return lambda wholes: entry.places(wholes)


def tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """The whole tensors of one entry. Raises as `read` does."""
    return _taker(folder, read(folder))(f"{name}/", empty)


def _taker(folder: Path, state: Mapping[str, Any]) -> Taker:
    """What reads the tensors whose names begin so: whole ones, or of shares what the given places want."""
    if state.get("shares"):
        from hmgan.train.shares import Stored  # torch.distributed.checkpoint takes a second to import

        return Stored(folder, state["shares"]).taken
    whole = load_file(folder / TENSORS)
    return lambda prefix, _: {key.removeprefix(prefix): x for key, x in whole.items() if key.startswith(prefix)}


def _digest(state: Mapping[str, Any]) -> str:
    """The sha256 of what the JSON says, but for itself."""
    rest = {key: value for key, value in state.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def stored(folder: Path) -> list[Path]:
    """A run's checkpoints, the newest first. What a killed run left half written is hidden, and none."""
    return sorted(folder.glob("[0-9]*"), reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint below a run's checkpoint folder, unread."""
    return next((path for path in stored(folder) if (path / STATE).is_file()), None)


def kimg_of(folder: Path) -> float | None:
    """Thousands of images that a checkpoint was written after; None where it cannot be read."""
    try:
        kimg: float = json.loads((folder / STATE).read_text(encoding="utf-8"))["kimg"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kimg


def put_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint, so that it is neither resumed from nor counted; its new name."""
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints, and what a killed run left half written."""
    for path in stored(folder)[keep:]:
        path.rename(path.with_name(f".{path.name}.old.partial"))  # an interrupted removal leaves no damaged one
    for path in folder.glob(".*.partial"):
        shutil.rmtree(path)


def _unflatten(flat: Mapping[str, Tensor], groups: list[Any]) -> dict[str, Any]:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = value
    for group in groups:
        group["betas"] = tuple(group["betas"])
    return {"state": slots, GROUPS: groups}


class Saver:
    """Context manager around the training loop, which waits at its end for what is being written.

    Memory: from `save` until the file is written, a copy on the CPU of all that a checkpoint holds.

    Args:
        folder: holds the checkpoints, each named by its step.
        keep: how many stay.
    """

    together = False  # whether all ranks save

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def save(self, step: int, entries: Entries, state: Mapping[str, Any]) -> None:
        """Copies the entries, and starts to write. Raises what the write before this one failed with."""
        self.wait()
        self._writing = self._begin(self._folder / f"{step:09d}", entries, state)

    def check(self) -> None:
        """Raises what a write failed with, once: UserError for want of room."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written. Raises what a write failed with, once."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with nullcontext() if error is None else suppress(Exception):  # what ended the loop is what is raised
            self.wait()

    def _begin(self, folder: Path, entries: Entries, state: Mapping[str, Any]) -> Future[None]:
        return self._pool.submit(self._write, folder, copy_of(entries), state)

    def _write(self, folder: Path, copy: Copy, state: Mapping[str, Any]) -> None:
        write(folder, copy, state)
        prune(self._folder, self._keep)
