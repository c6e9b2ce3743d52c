"""Everything a run needs to go on exactly: networks, optimisers, averages and the step. Safetensors and JSON, atomic.

Random streams and the position in the data are functions of (seed, step), so the step is all there is to store of them.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hmgan.errors import UserError
from hmgan.files import sha256_of, write_folder_atomically
from hmgan.train.engines.base import Kept

TENSORS, STATE = "state.safetensors", "state.json"
GROUPS = "param_groups"  # what only an optimiser's state has
Parts = Mapping[str, Kept]


class CheckpointError(UserError):
    """Its files are not what was written."""


class Copy(NamedTuple):
    """What a checkpoint holds, on the CPU and apart from the networks."""

    tensors: dict[str, Tensor]
    groups: dict[str, Any]


def copy_of(parts: Parts) -> Copy:
    """Of named networks and optimisers."""
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for name, part in parts.items():
        flat = part.state_dict()
        if GROUPS in flat:  # an optimiser's
            flat, groups[name] = _flatten(flat)
        # Into memory of their own: safetensors refuses tensors that share it, as expanded or tied ones do.
        tensors |= {f"{name}/{key}": torch.empty(x.shape, dtype=x.dtype).copy_(x) for key, x in flat.items()}
    return Copy(tensors, groups)


def write(folder: Path, copy: Copy, state: Mapping[str, Any]) -> None:
    """A checkpoint, whole or not at all. Raises UserError if it cannot be written."""

    def fill(partial: Path) -> None:
        save_file(copy.tensors, partial / TENSORS)
        whole = {**state, "groups": copy.groups, "sha256": sha256_of(partial / TENSORS)}
        (partial / STATE).write_text(json.dumps(whole) + "\n")

    try:
        write_folder_atomically(folder, fill)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"checkpoint {folder} cannot be written: {error}; those before it are whole: make room, and --resume"
        ) from error


def load(folder: Path, parts: Parts) -> dict[str, Any]:
    """Restores the parts in place and returns the saved state.

    Raises: CheckpointError, with nothing changed; UserError for a checkpoint of other networks.
    """
    try:
        state = json.loads((folder / STATE).read_text())
        whole = sha256_of(folder / TENSORS) == state["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CheckpointError(f"checkpoint {folder} is damaged: its checksum does not match")
    tensors = load_file(folder / TENSORS)
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        try:
            groups = state["groups"].get(name)
            part.load_state_dict(own if groups is None else _unflatten(own, groups))
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: {name} does not fit this experiment ({str(error).splitlines()[0]})") from None
    return state


def stored(folder: Path) -> list[Path]:
    """A run's checkpoints, the newest first. What a killed run left half written is none: its name is hidden."""
    return sorted(folder.glob("[0-9]*"), reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint below a run's checkpoint folder, unread."""
    return next((path for path in stored(folder) if (path / STATE).is_file()), None)


def put_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint, so that it is neither resumed from nor counted; its new name."""
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints, and what a killed run left half written."""
    for path in stored(folder)[keep:]:
        path.rename(path.with_name(f".{path.name}.old.partial"))  # a removal that is cut short leaves no half of one
    for path in folder.glob(".*.partial"):
        shutil.rmtree(path)


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[Any]]:
    flat = {f"{index}.{key}": value for index, slots in state["state"].items() for key, value in slots.items()}
    return flat, state[GROUPS]


def _unflatten(flat: Mapping[str, Tensor], groups: list[Any]) -> dict[str, Any]:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = value
    for group in groups:
        group["betas"] = tuple(group["betas"])
    return {"state": slots, GROUPS: groups}


class Saver:
    """Context manager around the training loop; what is being written is whole or given up when it ends.

    Memory: from `save` until the file is written, a copy on the CPU of all that a checkpoint holds.

    Args:
        folder: holds the checkpoints, each named by its step.
        keep: how many stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, step: int, parts: Parts, state: Mapping[str, Any]) -> None:
        """Copies the parts, and begins to write. Raises what the write before this one has failed with."""
        self.wait()
        copy = copy_of(parts)
        self._thread = threading.Thread(target=self._write, args=(self._folder / f"{step:09d}", copy, state))
        self._thread.start()

    def check(self) -> None:
        """Raises what a write has failed with: UserError for want of room."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until nothing is being written. Raises what it has failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:  # otherwise that one came first, and is told
                raise

    def _write(self, folder: Path, copy: Copy, state: Mapping[str, Any]) -> None:
        try:
            write(folder, copy, state)
            prune(self._folder, self._keep)
        except Exception as error:  # whatever it is, the training must hear of it
            self._error = error
