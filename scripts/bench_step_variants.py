"""What bench_step.py measures: the variants' names, and how large their networks are."""

from __future__ import annotations

from typing import NamedTuple

from row_c import generator_of, labels_of, widths_of
from styled_reference import OURS, PER_SAMPLE, SOURCE_ONLY, TRAINED
from torch import Tensor

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.generators.transfer import TransferGenerator

RELEASED = "(a) released"
ORDER = (RELEASED, PER_SAMPLE, OURS, SOURCE_ONLY, TRAINED)  # of the table's columns
CHANNELS = 512  # of a site


def variants(released: bool) -> list[str]:
    return [RELEASED, OURS, SOURCE_ONLY] if released else [OURS, SOURCE_ONLY]


class Size(NamedTuple):
    """What is measured."""

    batch: int
    resolution: int
    classes: int
    threads: int
    channels: int = 0  # of every block; 0 takes the paper's
    merge: bool = False  # whether D has one pass in a step without R1

    def labels(self) -> Tensor:
        return labels_of(self.batch, self.classes)

    def source(self) -> StyleGAN1:
        return StyleGAN1(resolution=self.resolution, channels=widths_of(self.resolution, self.channels))

    def generator(self) -> TransferGenerator:
        return generator_of(self.classes, self.resolution, widths_of(self.resolution, self.channels))

    def discriminator(self) -> StyleGAN1Discriminator:
        widths = widths_of(self.resolution, self.channels)
        return StyleGAN1Discriminator(self.classes, resolution=self.resolution, channels=widths)
