"""Training images by name: a registry entry, which is packed on first use, or a folder of shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from hmgan import components, registry_index
from hmgan.data.cache import locked
from hmgan.data.embedded import embedded
from hmgan.data.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.stores import is_url
from hmgan.errors import UserError
from hmgan.files import cache_folder


def open_data(name: str | None, report: Callable[[str], None] = print) -> ShardSet:
    """The packed images behind a registry name or a path.

    Raises: UserError for neither, or a folder that is not packed.
    """
    if name is None:
        raise UserError("data is missing; give --data a folder that hmgan pack wrote, or a name of hmgan list datasets")
    if name in registry_index.entries("dataset"):
        table = registry_index.entry("dataset", name)
        if "path" in table:
            return ShardSet(registry_index.place("dataset", name).parent / table["path"])
        return ShardSet(_packed(name, report))
    if is_url(name):
        return ShardSet(name)
    if not Path(name).exists() and "/" not in name:
        raise components.unknown("dataset", name, registry_index.entries("dataset"))
    return ShardSet(name)


def held_out(name: str | None) -> str | None:
    """The images that scores are against: those that a registry entry sets apart, or the training images."""
    if name in registry_index.entries("dataset"):
        return registry_index.entry("dataset", str(name)).get("heldout", name)
    return name


def _packed(name: str, report: Callable[[str], None]) -> Path:
    """Packs an embedded set once per machine; the folder is named after what goes in."""
    table = registry_index.entry("dataset", name)
    images = embedded(table["embedded"])
    digest = hashlib.sha256(repr(sorted(table.items())).encode())
    for path in sorted(images.iterdir()):
        digest.update(path.read_bytes())
    out = cache_folder() / "data" / f"{name}-{digest.hexdigest()[:12]}"
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_suffix(".lock")):  # several processes may need it at once
        if not out.exists():
            pack(images, out, pad=table.get("pad", 0), name=name, report=report)
    return out
