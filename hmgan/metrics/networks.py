"""The networks that score, by name: a registry entry, or NAME:PATH for an entry's network in a file that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hmgan.config import entries
from hmgan.errors import UserError, unknown
from hmgan.files import cache_folder
from hmgan.metrics.features import Extractor, load_squeezenet
from hmgan.metrics.inception import TorchScriptExtractor
from hmgan.metrics.perceptual import Perceptual, ScriptedLPIPS, load_squeeze_layers
from hmgan.metrics.torchscript import download, load_torchscript


def load_extractor(name: str) -> Extractor:
    """The feature extractor of that name, on the CPU. A URL is downloaded once.

    Raises: UserError for an unknown name, or a file that is missing or has another hash than its entry says.
    """
    entry_name, entry, path = _located("extractor", name)
    if path is None:
        return load_squeezenet()
    script = load_torchscript(path, f"extractor {entry_name}", entry["sha256"])
    return TorchScriptExtractor(script, name=entry_name, digest=entry["sha256"], dim=entry["dim"])


def load_perceptual(name: str, dtype: torch.dtype = torch.float32) -> Perceptual:
    """The perceptual distance of that name, on the CPU; the embedded one in `dtype`. Raises UserError as above."""
    entry_name, entry, path = _located("perceptual", name)
    if path is None:
        return load_squeeze_layers(dtype)
    script = load_torchscript(path, f"perceptual {entry_name}", entry["sha256"])
    return ScriptedLPIPS(script, name=entry_name, digest=entry["sha256"])


def _located(kind: str, name: str) -> tuple[str, dict[str, Any], Path | None]:
    """An entry and its network's file; no file for the embedded one."""
    entry_name, _, given = name.partition(":")
    if entry_name not in entries.entries(kind):
        raise unknown(kind, entry_name, entries.known(kind))
    entry = entries.entry(kind, entry_name)
    if "asset" in entry:
        if given:
            raise UserError(f"{kind} {entry_name} is embedded and takes no file, got {name!r}; leave the path out")
        return entry_name, entry, None
    if given:
        return entry_name, entry, Path(given)
    if "path" in entry:
        return entry_name, entry, entries.place(kind, entry_name).parent / entry["path"]
    return entry_name, entry, download(entry["url"], entry["sha256"], cache_folder() / f"{kind}s")
