"""CDC's two measures of realism, by turns: whole images near few fixed z, and patches of images from any z.

Ojha et al. 2021, section 3.2: with ten images to learn from, D would remember them; only near the anchors, as many
as there are images, must G give what D takes for one of them as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from hmgan import rng
from hmgan.config.settings import Anchors
from hmgan.discriminators.patches import PatchDiscriminator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.types import Latents


class AnchoredGenerator(UnconditionalGenerator):
    """The generator with z near one of a few anchors, and no style mixing."""

    def __init__(self, generator: UnconditionalGenerator, settings: Anchors, seed: int) -> None:
        super().__init__(generator.trained)
        self._settings = settings
        self._keys = rng.keys(seed, "anchors", 0, settings.count)

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        latents = super().latents(keys)
        chosen = [self._keys[key % self._settings.count] for key in keys]
        return latents._replace(z=super().latents(chosen).z + self._settings.spread * latents.z)


class Turn(NamedTuple):
    """Who plays a step."""

    generator: UnconditionalGenerator
    discriminator: nn.Module
    idle: list[nn.Parameter]  # of D, in this step


class Turns:
    """Which of the two a step is: a function of the step alone.

    Raises: UserError for a discriminator that cannot judge patches.
    """

    def __init__(
        self, settings: Anchors, generator: UnconditionalGenerator, discriminator: nn.Module, seed: int
    ) -> None:
        self._every, self._generator = settings.every, generator
        self._anchored = AnchoredGenerator(generator, settings, seed)
        self.patches = PatchDiscriminator(discriminator, settings.patch_blocks, seed)

    def at(self, step: int) -> Turn:
        if step % self._every == 0:
            return Turn(self._anchored, self.patches.discriminator, self.patches.idle(whole=True))
        return Turn(self._generator, self.patches, self.patches.idle(whole=False))
