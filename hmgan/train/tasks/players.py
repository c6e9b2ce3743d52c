"""Who plays a step of the GAN game: G and D as they are, unless another component is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from hmgan.components import register
from hmgan.generators.base import Generator
from hmgan.losses.base import OF_FINE_TUNING
from hmgan.train.tasks.gan_losses import Opponents
from hmgan.types import Weight

FINE_TUNING = {"modulation": OF_FINE_TUNING["modulation"], "backbone": OF_FINE_TUNING["backbone"]}


class Players:
    """G and D as they are. A component of its own kind, built with both networks and the run's seed."""

    backbone: ClassVar[Mapping[str, Any]] = {}  # options that the source's backbone must have
    trains_same_parameters = True  # in every step
    critic: nn.Module  # all of D that trains and is kept in checkpoints

    def __init__(self, generator: Generator, discriminator: nn.Module, seed: int) -> None:
        self.generator, self.discriminator, self.critic = generator, discriminator, discriminator

    def opponents(self, step: int, kimg: float) -> Opponents:
        """Who plays a step: a function of its position in the training alone."""
        return Opponents(self.generator, self.discriminator)


@register("players", "mining")
class Mining(Players):
    """MineGAN: a network in front of G's mapping learns which z to ask for, first alone, then with all of G.

    Wang et al. 2020, arXiv:1912.05270.

    Args:
        kimg: thousands of real images in which only the miner and D train.
    """

    excludes: ClassVar = FINE_TUNING
    backbone: ClassVar[Mapping[str, Any]] = {"mined": True}
    trains_same_parameters = False

    def __init__(self, generator: Generator, discriminator: nn.Module, seed: int, *, kimg: Weight = 1.6) -> None:
        super().__init__(generator, discriminator, seed)
        self._kimg = kimg

    def opponents(self, step: int, kimg: float) -> Opponents:
        for name, parameter in self.generator.trained.named_parameters():
            parameter.requires_grad_(name.startswith("miner.") or kimg >= self._kimg)
        return super().opponents(step, kimg)
