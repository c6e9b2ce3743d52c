"""Settings that moved or went: an old key is answered with what there is, and a run of an older version is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hmgan import components
from hmgan.errors import UserError

# In the order in which they are looked for: a key before the table it stood in.
MOVED = {
    "train.contrastive_weight": "contrastive.weight",
    "train.class_weight": "disc_head.class_weight",
    "train.class_fakes": "disc_head.class_fakes",
    "train.gen_penalty_weight": "gen_penalty.weight",
    "train.freeze": "task.freeze",
    "train.mixing": "task.mixing",
    "reconstruction.labels": "train.labels",
    "reconstruction": "task",
    "mining": "players",
    "anchors": "players",
    **{f"train.{key}": f"loader.{key}" for key in ("mirror", "workers", "on_corrupt", "corrupt_share")},
    **{f"train.{key}": f"compute.{key}" for key in ("precision", "tf32", "threads")},
    "engine": "compute.engine",
}
# Settings that are no more, and what to write instead. They changed how a run computed and not what: one of an older
# version goes on without them.
DROPPED = {
    f"{table}.{key}": instead
    for table in ("compute", "train")
    for key, instead in {
        "channels_last": "where a CPU, bf16 or kernels on a GPU want it, D's maps lie so by themselves; leave it out",
        "compile": 'kernels make the same passes; write compute.kernels = "auto", or leave it out',
    }.items()
}
# Tables that became a choice, and the component of that choice that they are.
NAMED = {"reconstruction": "reconstruction", "mining": "mining", "anchors": "anchors"}
# Tables whose component may lack the setting that has moved to it.
KINDS = {"contrastive": "contrastive", "disc_head": "disc-head", "gen_penalty": "gen-penalty", "task": "task"}
# Names that a setting has no more, or never had, and what there is in their place.
GONE = {
    "task": {
        "pretrain": "an experiment with a backbone of its own is a pretraining; leave task out",
        "transfer": "an experiment with a source is a transfer; leave task out",
        "align": "it is called alignment, and hmgan align takes any transfer",
    },
    "compute.engine": {
        "zero3": "it would divide D's weights, which R1's double backward needs whole; take zero1 or zero2, or fsdp2, "
        "which divides G's",
    },
}


def refuse(table: Mapping[str, Any]) -> None:
    """Raises UserError for the first key that has moved or gone: its new name, or what to write instead."""
    for field, names in GONE.items():
        choice = _find(table, field)
        name = choice.get("name") if isinstance(choice, Mapping) else choice
        if isinstance(name, str) and name in names:
            raise UserError(f"no {field.rpartition('.')[2]} named {name!r}: {names[name]}")
    for old, new in MOVED.items():
        if _find(table, old) is not None:
            named = f' with {new}.name = "{NAMED[old]}"' if old in NAMED else ""
            raise UserError(f"{old} is {new} now{named}; write that in its place")
    for old, instead in DROPPED.items():
        if _find(table, old) is not None:
            raise UserError(f"{old} is gone: {instead}")


def renamed(table: Mapping[str, Any]) -> dict[str, Any]:
    """A stored table with its values under their new names; what belongs to nothing that is there is left out."""
    new: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    if isinstance(new.get("task"), str) and new["task"] in GONE["task"]:
        new["task"] = {"name": "alignment" if new["task"] == "align" else "gan"}
        if isinstance(new.get("train"), dict) and new["train"].get("labels") is False:
            del new["train"]["labels"]  # which meant: unless there is a modulation
    for old in DROPPED:
        if _find(new, old) is not None:
            top, _, key = old.partition(".")
            del new[top][key]
    for old, path in MOVED.items():
        value = _find(new, old)
        if value is None:
            continue
        *above, key = old.split(".")
        del (new[above[0]] if above else new)[key]
        top, _, inner = path.partition(".")
        if old in NAMED:
            new[top] = {"name": NAMED[old], **value}
        elif top not in KINDS or (top in new and inner in components.schema(KINDS[top], new[top]["name"]).model_fields):
            new.setdefault(top, {})[inner] = value
    return new


def _find(table: Mapping[str, Any], path: str) -> Any:
    value: Any = table
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
