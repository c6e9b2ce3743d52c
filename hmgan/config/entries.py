"""Finds registry entries: the package's own, and those of every --registry DIR. Entries are data, never code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module, resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from hmgan import components
from hmgan.config.settings import Data
from hmgan.errors import UserError, explain, unknown

# kind -> folder. All but DATA_ONLY are components registered in code, to which an entry gives options and a provenance.
FOLDERS = {
    "task": "tasks",
    "backbone": "backbones",
    "discriminator": "discriminators",
    "disc-head": "disc-heads",
    "class-net": "class-nets",
    "modulation": "modulations",
    "adversarial": "adversarials",
    "contrastive": "contrastives",
    "regularizer": "regularizers",
    "augment": "augments",
    "gen-penalty": "gen-penalties",
    "players": "players",
    "feature-net": "feature-nets",
    "engine": "engines",
    "dataset": "datasets",
    "recipe": "recipes",
    "source": "sources",
    "extractor": "extractors",
    "perceptual": "perceptuals",
    "experiment": "experiments",
    "study": "studies",
}
DATA_ONLY = ("dataset", "recipe", "source", "extractor", "perceptual", "experiment", "study")
_extra: list[Path] = []
M = TypeVar("M", bound=BaseModel)


class Entry(BaseModel):
    """What every entry may say of itself. An experiment's keys are those of `config.Experiment`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    summary: str = ""
    provenance: str = ""


class ComponentEntry(Entry):
    """Options, and under another name than the component's own, the component."""

    component: str | None = None
    options: dict[str, Any] = {}


class DatasetEntry(Entry):
    """Packed images, a set that the package embeds, or other sets mixed. Paths begin at the entry's file."""

    path: str | None = None
    embedded: str | None = None
    mix: Data | None = None
    pad: int = 0
    heldout: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> DatasetEntry:
        if [self.path, self.embedded, self.mix].count(None) != 2:
            raise ValueError("needs one of path, embedded and mix")
        return self


class SourceEntry(Entry):
    """A source's folder: anywhere, or among the package's own files."""

    path: str | None = None
    asset: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SourceEntry:
        if (self.path is None) == (self.asset is None):
            raise ValueError("needs one of path and asset")
        return self


class NetworkEntry(Entry):
    """A network for scores: among the package's own files, or a TorchScript file by path or URL, which is code.

    So a file's hash must be here.
    """

    asset: str | None = None
    path: str | None = None
    url: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> NetworkEntry:
        if [self.asset, self.path, self.url].count(None) != 2:
            raise ValueError("needs one of asset, path and url")
        if self.asset is None and not re.fullmatch("[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError("needs sha256 in 64 hexadecimal digits: the file is code, and only this one is run")
        return self


class ExtractorEntry(NetworkEntry):
    """A network for scores that gives features; of a file, how many."""

    dim: int | None = None

    @model_validator(mode="after")
    def _counted(self) -> ExtractorEntry:
        if self.asset is None and self.dim is None:
            raise ValueError("needs dim, the number of features")
        return self


# kind -> what a table of it may say. A kind whose model lies higher up registers it, in the module named here.
_MODELS: dict[str, type[BaseModel]] = {
    "dataset": DatasetEntry,
    "source": SourceEntry,
    "extractor": ExtractorEntry,
    "perceptual": NetworkEntry,
}
_HOMES = {"recipe": "hmgan.data.pack.recipes", "study": "hmgan.study.schema"}


def schema(kind: str) -> Callable[[type[M]], type[M]]:
    """Class decorator: the model of a kind's tables."""

    def add(model: type[M]) -> type[M]:
        _MODELS[kind] = model
        return model

    return add


def model_of(kind: str) -> type[BaseModel]:
    """What an entry of this kind may say."""
    if kind in _HOMES:
        import_module(_HOMES[kind])
    return _MODELS.get(kind, ComponentEntry)


def add(folder: Path) -> None:
    """Searches `folder` before the package's own entries. Raises UserError if it is no registry."""
    if not any((folder / name).is_dir() for name in FOLDERS.values()):
        raise UserError(f"--registry {folder} has none of the folders {', '.join(FOLDERS.values())}; make one of them")
    _extra.insert(0, folder)


def added() -> list[Path]:
    """The folders given to `add`, as another process must add them to see the same entries."""
    return list(reversed(_extra))


def kind_named(word: str) -> str:
    """A kind by its singular or plural name. Raises UserError with the nearest spelling."""
    for kind, folder in FOLDERS.items():
        if word in (kind, folder):
            return kind
    raise unknown("kind", word, FOLDERS)


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
    """An entry's table. Raises UserError for an unknown name, a file that is not TOML, or keys that it cannot have."""
    path = place(kind, name)
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    if kind != "experiment":
        model = model_of(kind)
        try:
            model.model_validate(table)
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error, model)}") from None
    return table


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
