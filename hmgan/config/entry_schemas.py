"""The entries of each kind as strict models."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from hmgan.config.settings import Data

M = TypeVar("M", bound=BaseModel)


class Entry(BaseModel):
    """What every entry may have. An experiment's keys are the fields of `Experiment`."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    one_of: ClassVar[tuple[str, ...]] = ()  # of these keys, a table has exactly one
    summary: str = ""
    provenance: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Entry:
        if self.one_of and sum(getattr(self, key) is not None for key in self.one_of) != 1:
            raise ValueError(f"needs one of {', '.join(self.one_of[:-1])} and {self.one_of[-1]}")
        return self


class ComponentEntry(Entry):
    """Options, and under another name than the component's own, the component."""

    component: str | None = None
    options: dict[str, Any] = {}


class DatasetEntry(Entry):
    """Packed images, a set that the package embeds, or other sets mixed. Paths begin at the entry's file."""

    one_of: ClassVar = ("path", "embedded", "mix")
    path: str | None = None
    embedded: str | None = None
    mix: Data | None = None
    pad: int = 0
    heldout: str | None = None


class SourceEntry(Entry):
    """A source's folder: anywhere, or among the package's own files.

    A generator that was trained for longer than a demo names the data set in `zoo`, and demos on it show its images
    beside theirs.
    """

    one_of: ClassVar = ("path", "asset")
    path: str | None = None
    asset: str | None = None
    zoo: str | None = None


class NetworkEntry(Entry):
    """A network for scores: among the package's own files, or a TorchScript file by path or URL, which is code.

    So a file's hash must be here.
    """

    one_of: ClassVar = ("asset", "path", "url")
    asset: str | None = None
    path: str | None = None
    url: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _hashed(self) -> NetworkEntry:
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


# kind -> the model of its entries. A kind whose model lies in a later package registers it in the module named here.
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
    """The model of a kind's entries."""
    if kind in _HOMES:
        import_module(_HOMES[kind])
    return _MODELS.get(kind, ComponentEntry)
