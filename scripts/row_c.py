"""Row C of the paper, which the benchmarks train: its networks, its settings, a trainer and images of noise.

Hyper-modulation of every convolution, Barlow Twins on two views of reals and fakes, lazy R1 at one step in 16, Adam for
both networks, a moving average. Its D trains all but from-RGB.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.config.experiment import Experiment
from hmgan.config.settings import R1, Choice, Compute, Loader, Train
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.generators.build import Networks
from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.adafm import AdaFMHeads, LowRankAdaFMHeads
from hmgan.modulation.base import Modulation
from hmgan.modulation.class_nets import ClassMLP
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.base import Setup, Task
from hmgan.train.trainer import Trainer
from hmgan.types import Batch

CLASS_DIM, LAZY = 64, 16
HEADS: dict[str, Callable[[StyleGAN1, int], Modulation]] = {"full": AdaFMHeads, "low-rank": LowRankAdaFMHeads}


def widths_of(resolution: int, channels: int) -> list[int] | None:
    """The same channels in every block; 0 takes the paper's."""
    return [channels] * (resolution // 4).bit_length() if channels else None


def generator_of(classes: int, resolution: int, widths: list[int] | None, heads: str = "full") -> TransferGenerator:
    source = StyleGAN1(resolution=resolution, channels=widths)
    return TransferGenerator(source, ClassMLP(classes, dim=CLASS_DIM), HEADS[heads](source, CLASS_DIM))


def networks(classes: int, resolution: int, widths: list[int] | None, heads: str = "full") -> Networks:
    """Seeded, on torch's default device."""
    torch.manual_seed(0)
    generator = generator_of(classes, resolution, widths, heads)
    return Networks(generator, StyleGAN1Discriminator(classes, resolution=resolution, channels=widths))


def experiment_of(batch: int, compute: Compute, frozen: str = "from_rgb", stratified: bool = False) -> Experiment:
    return Experiment(
        summary="benchmark",
        backbone=Choice(name="stylegan1"),
        discriminator=Choice(name="stylegan1"),
        contrastive=Choice(name="barlow-twins"),
        r1=R1(every=LAZY),
        task=Choice(name="gan", freeze=[frozen]),
        compute=compute,
        loader=Loader(stratified=stratified),
        train=Train(batch=batch),
    )


def task_of(pair: Networks, experiment: Experiment, classes: int, runtime: Runtime) -> Task:
    return tasks.build(Setup(experiment, *pair, None, classes, runtime))


def trainer_of(task: Task, runtime: Runtime) -> Trainer:
    """Its `step` says which one is taken: a multiple of LAZY has R1."""
    return Trainer(task, runtime, Path(), lambda *_: None)


def images_of(batch: int, resolution: int, classes: int) -> Batch:
    """Noise, with as many images of each class as there can be."""
    pixels = torch.randint(256, (batch, 3, resolution, resolution), dtype=torch.uint8)
    return Batch(pixels, labels_of(batch, classes))


def labels_of(batch: int, classes: int) -> Tensor:
    """As many of each class as there can be, in order."""
    return torch.arange(batch) * classes // batch
