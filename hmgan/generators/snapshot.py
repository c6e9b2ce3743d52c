"""Generators on disk. An unconditional one is a source's folder; others hold the source and the trained parts too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from hmgan.config import entries
from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.generators.base import Generator
from hmgan.generators.centres import read_centres
from hmgan.generators.hub import hub_folder, is_repository
from hmgan.generators.source import (
    CONDITIONAL,
    CONFIG,
    FORMAT,
    GENERATOR,
    component,
    load_exactly,
    read_choice,
    read_source,
    read_tensors,
    source_folder,
    write,
)
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.types import UNLABELLED

SNAPSHOTS = "snapshots"


class Loaded(NamedTuple):
    """A generator with what its folder says of it."""

    generator: Generator
    classes: tuple[str, ...]
    config: dict[str, Any]
    transfer: TransferGenerator | None = None  # the same generator, where it has a modulation
    centres: Mapping[str, Tensor] = MappingProxyType({})  # [K, W] of classes


def save_conditional(
    folder: Path,
    generator: TransferGenerator,
    parts: dict[str, Choice],
    classes: tuple[str, ...],
    notes: dict[str, Any],
) -> None:
    """Writes a conditional generator; `parts` are the choices of its backbone, class net and modulation."""
    chosen = {name: choice.model_dump() for name, choice in parts.items()}
    config = {"format": CONDITIONAL, **notes, "classes": list(classes), **chosen}
    write(folder, config, {GENERATOR: generator.whole_state()})


def load_generator(path: Path | str) -> Loaded:
    """The generator in a folder: a snapshot, a source, or a run directory, whose newest snapshot is taken.

    The name of a source in the registry works, too, and OWNER/NAME of a model hub.

    Raises: UserError where there is none.
    """
    folder = generator_folder(path)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no JSON, or no UTF-8
        raise UserError(f"no generator at {path} ({error}); give a run directory, a snapshot or a source") from None
    found = config.get("format") if isinstance(config, dict) else type(config).__name__
    if found == FORMAT:
        plain = UnconditionalGenerator(read_source(folder).backbone).eval()
        return Loaded(plain, (UNLABELLED,), config, centres=read_centres(folder, (UNLABELLED,)))
    if found is None:
        raise UserError(f"no generator at {path}: no snapshot is in it yet; give a run directory with one, or a source")
    if found != CONDITIONAL:
        raise UserError(f"{folder / CONFIG} has format {found!r}, this version reads {CONDITIONAL!r}")
    backbone, class_net, modulation = (read_choice(config, p, folder) for p in ("backbone", "class_net", "modulation"))
    classes = config.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{folder / CONFIG}: classes should be a list of names, got {classes!r}")
    tensors, source = read_tensors(folder / GENERATOR), component("backbone", backbone)
    # The source first: the modulation takes its normalised weights from it.
    source_state = {k.removeprefix("source."): v for k, v in tensors.items() if k.startswith("source.")}
    load_exactly(source, source_state, folder / GENERATOR)
    labels = component("class-net", class_net, len(classes))
    generator = TransferGenerator(source, labels, component("modulation", modulation, source, labels.dim))
    load_exactly(generator, tensors, folder / GENERATOR)
    return Loaded(generator.eval(), tuple(classes), config, generator, read_centres(folder, classes))


def of_zoo(data: str) -> str | None:
    """The registry's generator that was trained on that data set, for longer than a demo; None where there is none."""
    names = entries.entries("source")
    return next((name for name in names if entries.entry("source", name).get("zoo") == data), None)


def generator_folder(path: Path | str) -> Path:
    """The folder that holds the generator of that folder, registry name or OWNER/NAME of a hub; it may hold none."""
    # A folder first: a path loses its leading ./, so that a folder of a source's name could not be given otherwise.
    if Path(path).exists():
        return newest_snapshot(Path(path))
    if str(path) in entries.entries("source"):
        return source_folder(str(path))
    # Where its parent is a folder, a path is a slip of the keyboard, and no repository.
    if is_repository(str(path)) and not Path(path).parent.is_dir():
        return hub_folder(str(path))
    return Path(path)


def newest_snapshot(path: Path) -> Path:
    """The newest snapshot of a run directory, or the folder itself."""
    whole = _snapshots(path)
    return whole[-1] if whole else path


def has_snapshot(run: Path) -> bool:
    """Whether a run directory has any; a study's weights may have been removed for the space they take."""
    return bool(_snapshots(run))


def _snapshots(run: Path) -> list[Path]:
    return sorted(path for path in (run / SNAPSHOTS).glob("[0-9]*") if (path / CONFIG).is_file())
