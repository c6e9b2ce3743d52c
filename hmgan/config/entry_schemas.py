"""What an entry of each kind may say, as strict models."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from hmgan.config.settings import Data

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
