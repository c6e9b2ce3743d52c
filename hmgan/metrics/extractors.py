"""Extractors by name: a registry entry, or NAME:PATH for an entry's network in a file that is there already."""

from __future__ import annotations

from pathlib import Path

from hmgan import components, registry_index
from hmgan.datasets import cache_folder
from hmgan.errors import UserError
from hmgan.metrics.features import Extractor, load_squeezenet
from hmgan.metrics.inception import download, load_torchscript


def load_extractor(name: str) -> Extractor:
    """The extractor of that name, on the CPU. A URL is downloaded once.

    Raises: UserError for an unknown name, or a file that is missing or has another hash than its entry says.
    """
    entry_name, _, given = name.partition(":")
    if entry_name not in registry_index.entries("extractor"):
        raise components.unknown("extractor", entry_name, registry_index.known("extractor"))
    entry = registry_index.entry("extractor", entry_name)
    if "asset" in entry:
        if given:
            raise UserError(f"extractor {entry_name} is embedded and takes no file, got {name!r}; leave the path out")
        return load_squeezenet()
    if given:
        path = Path(given)
    elif "path" in entry:
        path = registry_index.place("extractor", entry_name).parent / entry["path"]
    else:
        path = download(entry["url"], entry["sha256"], cache_folder() / "extractors")
    return load_torchscript(path, name=entry_name, sha256=entry["sha256"], dim=entry["dim"])
