"""Finds registry entries: the package's own, and those of every --registry DIR. Entries are data, never code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from hmgan import components
from hmgan.errors import UserError

# kind -> folder. The first six are components registered in code, to which an entry gives options and a provenance.
FOLDERS = {
    "backbone": "backbones",
    "discriminator": "discriminators",
    "class-net": "class-nets",
    "modulation": "modulations",
    "adversarial": "adversarials",
    "contrastive": "contrastives",
    "dataset": "datasets",
    "source": "sources",
    "experiment": "experiments",
}
DATA_ONLY = ("dataset", "source", "experiment")
_extra: list[Path] = []


def add(folder: Path) -> None:
    """Searches `folder` before the package's own entries. Raises UserError if it is no registry."""
    if not any((folder / name).is_dir() for name in FOLDERS.values()):
        raise UserError(f"--registry {folder} has none of the folders {', '.join(FOLDERS.values())}; make one of them")
    _extra.insert(0, folder)


def kind_named(word: str) -> str:
    """A kind by its singular or plural name. Raises UserError with the nearest spelling."""
    for kind, folder in FOLDERS.items():
        if word in (kind, folder):
            return kind
    raise components.unknown("kind", word, FOLDERS)


def entries(kind: str) -> dict[str, Path]:
    """The entries of a kind by name; a user's entry takes the place of the package's."""
    roots = [
        *reversed(_extra),
    ]
    found: dict[str, Path] = {}
    for root in [Path(str(resources.files("hmgan.registry"))), *roots]:
        found |= {path.stem: path for path in sorted((root / FOLDERS[kind]).glob("*.toml"))}
    return found


def entry(kind: str, name: str) -> dict[str, Any]:
    """An entry's table. Raises UserError for an unknown name or a file that is not TOML."""
    known = entries(kind)
    if name not in known:
        raise components.unknown(kind, name, known)
    try:
        return tomllib.loads(known[name].read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{known[name]} is not valid TOML: {error}") from None


def known(kind: str) -> list[str]:
    """All names of a kind: entries, and for components those registered in code."""
    registered = [] if kind in DATA_ONLY else components.names(kind)
    return sorted({*entries(kind), *registered})


def component(kind: str, name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The registered component behind a name, and the entry's options with the given ones over them."""
    if name not in entries(kind):
        if name not in components.names(kind):
            raise components.unknown(kind, name, known(kind))
        return name, dict(options)
    table = entry(kind, name)
    return table.get("component", name), {**table.get("options", {}), **options}
