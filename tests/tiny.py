"""A whole world at 8 px: three classes of images, a source with its discriminator, and experiments on them.

Everything is seeded, and a network of it runs in milliseconds.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from hmgan import components
from hmgan.cli.app import run
from hmgan.config.experiment import Experiment
from hmgan.config.loading import load_experiment, merge, parse_override, resolve
from hmgan.config.settings import Choice
from hmgan.data.pack.pack import pack
from hmgan.generators.source import save_source
from hmgan.train.prepare import prepare
from hmgan.train.trainer import Trainer

CLASSES = ("ant", "bee", "cat")
BACKBONE = {"resolution": 8, "channels": [8, 8], "z_dim": 8, "mapping_layers": 2}
DISCRIMINATOR = {"resolution": 8, "channels": [8, 8]}
SMALL = ("train.batch=4", "train.trackers=[]", "train.unedited=false")
BACKBONES = {
    "stylegan1": BACKBONE,
    "gan-memory-resnet": {"resolution": 8, "channels": [8, 8], "z_dim": 8},
    "stylegan2": {"resolution": 8, "channels": [8, 8], "z_dim": 8, "w_dim": 8, "mapping_layers": 2},
    "stylegan3": {"resolution": 8, "channel_max": 4, "depth": 4, "z_dim": 8, "w_dim": 8},
    "biggan": {"resolution": 8, "classes": 3, "channels": [8, 8], "z_dim": 8, "shared": 4},
}


class Maps(nn.Module):
    """Two maps of an image: a network for discriminators on features."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(images).relu()
        return [first, self.second(first)]


def write_script(file: Path, network: nn.Module | None = None) -> tuple[str, ...]:
    """A network as a TorchScript file, two maps where left out; options that name it and its hash."""
    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(network or Maps()), file)
    return f"path={file}", f"sha256={hashlib.sha256(file.read_bytes()).hexdigest()}"


def write_images(folder: Path, per_class: int = 12, size: int = 8) -> Path:
    """A folder per class; each class has a colour of its own under the noise."""
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = random.integers(0, 160, (size, size, 3), np.uint8)
            pixels[..., label] += 80
            Image.fromarray(pixels).save(folder / name / f"{i:03d}.png")
    return folder


def write_shards(folder: Path) -> Path:
    """The images, packed."""
    pack(write_images(folder / "images"), folder / "shards", shard_samples=16, name="insects")
    return folder / "shards"


def write_source(folder: Path, backbone: str = "stylegan1") -> Path:
    """A source with its discriminator; random, but for noise weights and biases that begin at zero and here do not."""
    torch.manual_seed(1)
    generator = components.build("backbone", backbone, **BACKBONES[backbone])
    discriminator = components.build("discriminator", "stylegan1", 1, **DISCRIMINATOR)
    with torch.no_grad():
        for network in (generator, discriminator):
            for parameter in network.parameters():
                if parameter.abs().max() == 0:
                    parameter.normal_(std=0.3)
    choices = (Choice(name=backbone, **BACKBONES[backbone]), Choice(name="stylegan1", **DISCRIMINATOR))
    save_source(folder, (choices[0], generator), (choices[1], discriminator), {"summary": "tiny"})
    return folder


def transfer(shards: Path, source: Path, *overrides: str, name: str = "hyper-mod-b", **extra: object) -> Experiment:
    """A transfer of the tiny source, 4 images a step, without trackers; the source stays frozen as in the paper."""
    given = (f"data={shards}", f"source={source}", *SMALL, *overrides)
    return load_experiment(name, given, extra)


def pretraining(shards: Path, *overrides: str, backbone: str = "stylegan1") -> Experiment:
    """The tiny source's own training, 4 images a step, without trackers."""
    table = {
        "summary": "tiny",
        "data": str(shards),
        "backbone": {"name": backbone, **BACKBONES[backbone]},
        "discriminator": {"name": "stylegan1", **DISCRIMINATOR},
        "train": {"batch": 4, "trackers": []},
    }
    for override in overrides:
        merge(table, parse_override(override))
    return resolve(table)


def no_snapshot(trainer: Trainer, kimg: float) -> None:
    """Where a test has no use for pictures."""


def make_trainer(
    experiment: Experiment, folder: Path, on_snapshot: Callable[[Trainer, float], None] = no_snapshot
) -> Trainer:
    """A trainer as a run would build it."""
    prepared = prepare(experiment)
    return Trainer(prepared.task, prepared.runtime, folder, on_snapshot)


def command(*arguments: object) -> int:
    """`hmgan ARGUMENTS` in this process; returns its exit code."""
    with patch.object(sys, "argv", ["hmgan", *map(str, arguments)]):
        try:
            run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def options(**settings: object) -> list[str]:
    """`train__batch=4` -> ["--set", "train.batch=4"], for each."""
    return [word for key, value in settings.items() for word in ("--set", f"{key.replace('__', '.')}={value}")]
