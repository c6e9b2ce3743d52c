"""Finds registry entries: the package's own, and those of every --registry DIR. Entries are data, never code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from hmgan import components
from hmgan.errors import UserError, explain, unknown

# Kinds of components, registered in code: an entry gives one of them options and a provenance.
COMPONENTS = (
    *("task", "backbone", "discriminator", "disc-head", "class-net", "modulation", "adversarial", "contrastive"),
    *("regularizer", "augment", "gen-penalty", "players", "feature-net", "engine"),
)
DATA_ONLY = ("dataset", "recipe", "source", "extractor", "perceptual", "experiment", "study")
_PLURALS = {"gen-penalty": "gen-penalties", "players": "players", "study": "studies"}
FOLDERS = {kind: _PLURALS.get(kind, f"{kind}s") for kind in (*COMPONENTS, *DATA_ONLY)}
_extra: list[Path] = []


def add(folder: Path) -> None:
    """Searches `folder` before the package's own entries. Raises UserError if it is no registry."""
    if not any((folder / name).is_dir() for name in FOLDERS.values()):
        raise UserError(f"--registry {folder} has none of the folders {', '.join(FOLDERS.values())}; make one of them")
    _extra.insert(0, folder)


def added() -> list[Path]:
    """The folders given to `add`, in the order in which another process must add them."""
    return _extra[::-1]


def kind_named(word: str) -> str:
    """A kind by its singular or plural name. Raises UserError with the nearest spelling."""
    for kind, folder in FOLDERS.items():
        if word in (kind, folder):
            return kind
    raise unknown("kind", word, FOLDERS)


def entries(kind: str) -> dict[str, Path]:
    """The entries of a kind by name; a user's entry replaces the package's."""
    found: dict[str, Path] = {}
    for root in [Path(str(resources.files("hmgan.registry"))), *added()]:
        found |= {path.stem: path for path in sorted((root / FOLDERS[kind]).glob("*.toml"))}
    return found


def entry(kind: str, name: str) -> dict[str, Any]:
    """An entry's table. Raises UserError for an unknown name, a file that is not TOML, or keys that it cannot have."""
    from pydantic import ValidationError

    from hmgan.config.entry_schemas import model_of

    path = place(kind, name)
    table = _parsed(path)
    if kind != "experiment":
        model = model_of(kind)
        try:
            model.model_validate(table)
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error, model)}") from None
    return table


def summaries(kind: str) -> dict[str, str]:
    """All names of a kind, with the entry's summary, unchecked, or the first line of the component's docstring."""
    found = entries(kind)
    return {
        name: str(_parsed(found[name]).get("summary", "")) if name in found else components.summary(kind, name)
        for name in known(kind)
    }


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def place(kind: str, name: str) -> Path:
    """An entry's file. Raises UserError for an unknown name."""
    found = entries(kind)
    if name not in found:
        raise unknown(kind, name, found)
    return found[name]


def known(kind: str) -> list[str]:
    """All names of a kind: entries, and for components those registered in code."""
    registered = [] if kind in DATA_ONLY else components.names(kind)
    return sorted({*entries(kind), *registered})


def component(kind: str, name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The registered component behind a name, and the entry's options with the given ones over them."""
    if name not in entries(kind):
        if name not in components.names(kind):
            raise unknown(kind, name, known(kind))
        return name, dict(options)
    table = entry(kind, name)
    return table.get("component", name), {**table.get("options", {}), **options}
