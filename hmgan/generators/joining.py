"""A generator's configuration and tensors once classes were added to it, dropped from it, or have other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmgan.config.loading import portable
from hmgan.errors import UserError, some_of
from hmgan.files import write_folder_atomically
from hmgan.generators.centres import CENTRES, write_centres
from hmgan.generators.snapshot import Loaded, load_generator
from hmgan.generators.source import CONDITIONAL, GENERATOR, read_tensors, write
from hmgan.modulation.joined import SOURCE_START

JOINED = "joined"
# Where a class net has a row per class.
ROWS = ("trained.modulation.base_net.weight", "trained.modulation.base_net.embedding.weight")


def joined_of(config: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """The class net and modulation of a model with these of its classes left."""
    modulation = config["modulation"]
    if modulation["name"] != JOINED:
        old = {"old": len(config["classes"]), "class_net": config["class_net"], "modulation": modulation}
        modulation = {"name": JOINED, **old, "added": [], "kept": list(range(old["old"]))}
    kept = [modulation["kept"][place] for place in places]
    return {"class_net": {"name": "one-hot"}, "modulation": {**modulation, "kept": kept}}


def count_of(config: dict[str, Any]) -> int:
    """Classes that the model ever had."""
    options = joined_of(config, list(range(len(config["classes"]))))["modulation"]
    return int(options["old"]) + len(options["added"])


def state_of(loaded: Loaded, folder: Path) -> dict[str, Tensor]:
    """A model's tensors under the names that they have where it is joined."""
    tensors = read_tensors(folder / GENERATOR)
    if loaded.config["modulation"]["name"] == JOINED:
        return tensors
    moved = {"trained.class_net.": "trained.modulation.base_net.", "trained.modulation.": "trained.modulation.base."}
    state = {}
    for key, x in tensors.items():
        before = next((each for each in moved if key.startswith(each)), "")
        state[moved.get(before, "") + key.removeprefix(before)] = x
    return state


def forget(state: dict[str, Tensor], options: dict[str, Any]) -> str:
    """Puts zeros in place of what is the dropped classes' own; returns why some of it stays, if any does."""
    old, added = int(options["old"]), options["added"]
    needed = set(options["kept"])
    for place in reversed(range(len(added))):  # a class starts from one before it
        if old + place in needed:
            needed.add(int(added[place]["start"]))
    for place in range(len(added)):
        if old + place not in needed:
            own = f"trained.modulation.added.{place}."
            state |= {name: torch.zeros_like(x) for name, x in state.items() if name.startswith(own)}
    dropped = [label for label in range(old) if label not in needed]
    rows = next((name for name in ROWS if name in state), "")
    if dropped and rows:
        state[rows] = state[rows].index_fill(0, torch.tensor(dropped), 0.0)
    if needed - {SOURCE_START, *options["kept"]}:
        return "an added class starts from them"
    return "" if rows or not dropped else "its tables hold all classes"


def save(
    out: Path,
    loaded: Loaded,
    parts: dict[str, Any],
    names: Sequence[str],
    state: dict[str, Tensor],
    centres: Mapping[str, Tensor],
) -> None:
    """Writes the model whole or not at all, after it has been read once."""
    notes = {key: value for key, value in loaded.config.items() if key not in ("format", "classes", "centres", *parts)}
    notes |= {"data": portable(notes["data"])} if "data" in notes else {}  # the source is for another class to start on
    notes |= {"centres": CENTRES} if centres else {}
    config = {"format": CONDITIONAL, **notes, "classes": list(names), **parts}

    def fill(partial: Path) -> None:
        write(partial, config, {GENERATOR: state})
        write_centres(partial, centres)
        load_generator(partial)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(out, fill)


def check_name(name: str, known: Sequence[str]) -> None:
    """Raises UserError for a name that is taken, or none."""
    if name in known or not name.strip():
        raise UserError(f"a class is named {name!r} already; the model has {some_of(known)}")
