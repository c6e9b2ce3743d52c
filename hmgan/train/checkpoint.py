"""Everything a run needs to go on exactly: networks, optimisers, averages and the step. Safetensors and JSON, atomic.

Random streams and the position in the data are functions of (seed, step), so the step is all there is to store of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.files import write_folder_atomically

TENSORS, STATE = "state.safetensors", "state.json"


def save(folder: Path, parts: Mapping[str, nn.Module | torch.optim.Optimizer], state: Mapping[str, Any]) -> None:
    """Writes a checkpoint of named networks and optimisers, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    groups: dict[str, Any] = {}
    for name, part in parts.items():
        if isinstance(part, torch.optim.Optimizer):
            flat, groups[name] = _flatten(part)
            tensors |= {f"{name}/{key}": value for key, value in flat.items()}
        else:
            tensors |= {f"{name}/{key}": value for key, value in part.state_dict().items()}
    # Clones: safetensors refuses tensors that share memory, as expanded or tied ones do.
    owned = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}

    def write(partial: Path) -> None:
        save_file(owned, partial / TENSORS)
        digest = hashlib.sha256((partial / TENSORS).read_bytes()).hexdigest()
        (partial / STATE).write_text(json.dumps({**state, "groups": groups, "sha256": digest}) + "\n")

    write_folder_atomically(folder, write)


def load(folder: Path, parts: Mapping[str, nn.Module | torch.optim.Optimizer]) -> dict[str, Any]:
    """Restores the parts in place and returns the saved state.

    Raises: UserError if the checkpoint is damaged or of other networks.
    """
    try:
        state = json.loads((folder / STATE).read_text())
        whole = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest() == state["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{folder} is damaged: its checksum does not match; remove it to resume from the one before")
    tensors = load_file(folder / TENSORS)
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        try:
            if isinstance(part, torch.optim.Optimizer):
                part.load_state_dict(_unflatten(own, state["groups"][name]))
            else:
                part.load_state_dict(own)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: {name} does not fit this experiment ({str(error).splitlines()[0]})") from None
    return state


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint below a run's checkpoint folder."""
    whole = [path for path in sorted(folder.glob("[0-9]*")) if (path / STATE).is_file()]
    return whole[-1] if whole else None


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints, and what a killed run left half written."""
    for path in (*sorted(folder.glob("[0-9]*"))[:-keep], *folder.glob(".*.partial")):
        shutil.rmtree(path)


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[Any]]:
    state = optimizer.state_dict()
    flat = {f"{index}.{key}": value for index, slots in state["state"].items() for key, value in slots.items()}
    return flat, state["param_groups"]


def _unflatten(flat: Mapping[str, Tensor], groups: list[Any]) -> dict[str, Any]:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = value
    for group in groups:
        group["betas"] = tuple(group["betas"])
    return {"state": slots, "param_groups": groups}
