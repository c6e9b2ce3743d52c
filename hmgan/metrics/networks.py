"""The networks that score, by name: a registry entry, or NAME:PATH for an entry whose file is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hmgan.config import entries
from hmgan.errors import UserError, unknown
from hmgan.files import cache_folder
from hmgan.metrics.features import EMBEDDED, Extractor
from hmgan.metrics.inception import TorchScriptExtractor
from hmgan.metrics.perceptual import Perceptual, ScriptedLPIPS, load_squeeze_layers
from hmgan.metrics.torchscript import download, load_torchscript


def load_extractor(name: str) -> Extractor:
    """The feature extractor of that name, on the CPU. A URL is downloaded once.

    Raises: UserError for an unknown name, or a file that is missing or has another hash than its entry says.
    """
    entry_name, entry, script = _loaded("extractor", name)
    if script is None:
        return EMBEDDED[entry["asset"]]()
    return TorchScriptExtractor(script, name=entry_name, digest=entry["sha256"], dim=entry["dim"], side=0)


def load_extractors(names: str) -> list[Extractor]:
    """The extractors of "NAME,NAME", each once; reports speak of the first. Raises UserError as above."""
    return [load_extractor(name) for name in dict.fromkeys(names.split(","))]


def load_perceptual(name: str, dtype: torch.dtype = torch.float32) -> Perceptual:
    """The perceptual distance of that name, on the CPU; the embedded one in `dtype`. Raises UserError as above."""
    entry_name, entry, script = _loaded("perceptual", name)
    if script is None:
        return load_squeeze_layers(dtype)
    return ScriptedLPIPS(script, name=entry_name, digest=entry["sha256"])


def _loaded(kind: str, name: str) -> tuple[str, dict[str, Any], nn.Module | None]:
    """An entry's name and table, and the network in its file; None for the embedded one."""
    entry_name, _, given = name.partition(":")
    if entry_name not in entries.entries(kind):
        raise unknown(kind, entry_name, entries.known(kind))
    entry = entries.entry(kind, entry_name)
    if "asset" in entry:
        if given:
            raise UserError(f"{kind} {entry_name} is embedded and takes no file, got {name!r}; leave the path out")
        return entry_name, entry, None
    if given:
        path = Path(given)
    elif "path" in entry:
        path = entries.place(kind, entry_name).parent / entry["path"]
    else:
        path = download(entry["url"], entry["sha256"], cache_folder() / f"{kind}s")
    return entry_name, entry, load_torchscript(path, f"{kind} {entry_name}", entry["sha256"])
