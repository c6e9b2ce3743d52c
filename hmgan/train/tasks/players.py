"""Who plays a step of the GAN game: G and D as they are, unless a component says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import nn

from hmgan.components import register
from hmgan.losses.base import OF_FINE_TUNING
from hmgan.types import Weight

FINE_TUNING = {"modulation": OF_FINE_TUNING["modulation"], "backbone": OF_FINE_TUNING["backbone"]}


class Turn(NamedTuple):
    """Who plays a step."""

    generator: Any  # latents(keys, mixing), penalties(), and (latents, labels) -> GenOut
    discriminator: nn.Module
    idle: list[nn.Parameter]  # of D, in this step


class Players:
    """The networks as they are. A component of its own kind, built with both networks and the run's seed."""

    backbone: ClassVar[Mapping[str, Any]] = {}  # options that it asks of the source's backbone
    steady = True  # whether the same parameters train in every step
    critic: nn.Module  # all of D that trains and is kept in checkpoints

    def __init__(self, generator: Any, discriminator: nn.Module, seed: int) -> None:
        self.generator, self.discriminator, self.critic = generator, discriminator, discriminator

    def at(self, step: int, kimg: float) -> Turn:
        """Who plays this step: a function of how far the training is, alone."""
        return Turn(self.generator, self.discriminator, [])


@register("players", "mining")
class Mining(Players):
    """MineGAN: a network in front of G's mapping learns which z to ask for, alone at first, then with all of G.

    Wang et al. 2020, arXiv:1912.05270.

    Args:
        kimg: thousands of real images in which only the miner and D train.
    """

    excludes: ClassVar = FINE_TUNING
    backbone: ClassVar[Mapping[str, Any]] = {"mined": True}
    steady = False

    def __init__(self, generator: Any, discriminator: nn.Module, seed: int, *, kimg: Weight = 1.6) -> None:
        super().__init__(generator, discriminator, seed)
        self._kimg = kimg

    def at(self, step: int, kimg: float) -> Turn:
        for name, parameter in self.generator.trained.named_parameters():
            parameter.requires_grad_(name.startswith("miner.") or kimg >= self._kimg)
        return super().at(step, kimg)
