"""Source networks on disk: model.safetensors, discriminator.safetensors and config.json in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hmgan import components
from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.config.settings import Choice
from hmgan.errors import UserError, explain, unknown
from hmgan.files import sha256_of, write_atomically
from hmgan.layers.backbone import Backbone

FORMAT, CONDITIONAL = "hmgan-source/1", "hmgan-conditional/1"  # of one class; of several
GENERATOR, DISCRIMINATOR, CONFIG = "model.safetensors", "discriminator.safetensors", "config.json"


class Source(NamedTuple):
    """A frozen backbone, and the choice and state of its discriminator, where it has one."""

    backbone: Backbone
    discriminator: tuple[Choice, dict[str, Tensor]] | None
    config: dict[str, Any]
    digest: str  # sha256 of model.safetensors


def source_folder(name: str) -> Path:
    """The folder behind a registry name or a path. Raises UserError for neither."""
    if name in entries.entries("source"):
        table = entries.entry("source", name)
        if "asset" in table:
            return Path(str(resources.files("hmgan"))) / table["asset"]
        return entries.place("source", name).parent / table["path"]
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    if "/" not in name:
        raise unknown("source", name, entries.entries("source"))
    raise UserError(f"no source at {name}: {CONFIG} is not there; make one with hmgan pretrain or hmgan import")


def load_source(name: str) -> Source:
    """The source of that name or in that folder. Raises UserError if a file is missing or does not fit."""
    return read_source(source_folder(name))


def source_of(experiment: Experiment) -> Source | None:
    """What an experiment starts from; None for training from scratch. Raises as `load_source` does."""
    return None if experiment.source is None else load_source(experiment.source)


def read_source(folder: Path) -> Source:
    """A frozen source with its discriminator's state. Raises UserError if a file is missing or does not fit."""
    config = read_config(folder)
    choice = read_choice(config, "backbone", folder)
    backbone = component("backbone", choice)
    load_exactly(backbone, read_tensors(folder / GENERATOR), folder / GENERATOR)
    discriminator = None
    if "discriminator" in config:
        discriminator = read_choice(config, "discriminator", folder), read_tensors(folder / DISCRIMINATOR)
    # A backbone with batch statistics keeps those it was trained with.
    return Source(backbone.eval(), discriminator, config, sha256_of(folder / GENERATOR))


def component(kind: str, choice: Choice, *parts: object) -> Any:
    """What a choice names, built from its parts and the choice's options."""
    return components.build(kind, choice.name, *parts, **choice.options)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a source. Raises UserError where there is none."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no JSON, or no UTF-8
        raise UserError(f"{folder / CONFIG} is not readable: {error}; give a folder that hmgan wrote") from None
    found = config.get("format") if isinstance(config, dict) else type(config).__name__
    if found == CONDITIONAL:
        raise UserError(
            f"{folder} draws several classes, and a source draws one; fold one into it with "
            f"`hmgan export {folder} FOLDER --class NAME`"
        )
    if found != FORMAT:
        raise UserError(f"{folder / CONFIG} has format {found!r}, this version reads {FORMAT!r}")
    return config


def read_choice(config: Mapping[str, Any], part: str, folder: Path) -> Choice:
    """A component that a config.json names. Raises UserError where it is missing or not a component."""
    try:
        return Choice.model_validate(config.get(part))
    except ValidationError as error:
        raise UserError(f"{folder / CONFIG}: {explain(error, Choice, part)}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in float32. Raises UserError where it is not readable, or not finite."""
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    return checked(tensors, path)


def checked(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Raises UserError for tensors that are not finite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds numbers that are not finite; give an earlier snapshot, or a copy")
    return tensors


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads a state. Raises UserError unless it names every tensor of the network, with its shape, and no others."""
    own = network.state_dict()
    for name in sorted({*own, *state}):
        if name not in own or name not in state or own[name].shape != state[name].shape:
            wanted, got = (tuple(d[name].shape) if name in d else "nothing" for d in (own, state))
            raise UserError(f"{path}: {name} should be {wanted}, got {got}; it does not fit its config.json")
    network.load_state_dict(dict(state))


def save_source(
    folder: Path,
    backbone: tuple[Choice, nn.Module],
    discriminator: tuple[Choice, nn.Module] | None,
    notes: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a source; `notes` go into its config.json."""
    config: dict[str, Any] = {"format": FORMAT, **notes, "backbone": backbone[0].model_dump()}
    states = {GENERATOR: backbone[1].state_dict()}
    if discriminator is not None:
        config["discriminator"] = discriminator[0].model_dump()
        states[DISCRIMINATOR] = discriminator[1].state_dict()
    write(folder, config, states, dtype)


def write(
    folder: Path, config: Mapping[str, Any], states: Mapping[str, dict[str, Tensor]], dtype: torch.dtype | None = None
) -> None:
    """Writes states by the names of their files; config.json last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in states.items():
        tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in state.items()}
        write_atomically(folder / name, partial(save_file, tensors))
    write_atomically(
        folder / CONFIG, lambda path: path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    )
