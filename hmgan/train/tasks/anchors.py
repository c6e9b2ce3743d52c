"""CDC's two measures of realism in alternation: whole images near a few fixed z, and patches of images from any z.

Ojha et al. 2021, section 3.2: D would memorise ten training images. So it judges whole images only near anchors, as
many as there are images, and patches everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from hmgan import rng
from hmgan.components import register
from hmgan.discriminators.patches import PatchDiscriminator
from hmgan.generators.base import Generator
from hmgan.train.tasks.gan_losses import Opponents
from hmgan.train.tasks.players import FINE_TUNING, Players
from hmgan.types import Count, GenOut, Latents, Weight


class AnchoredGenerator:
    """The generator with z near one of `count` anchors, `spread` its standard deviation, and no style mixing."""

    def __init__(self, generator: Generator, count: int, spread: float, seed: int) -> None:
        self._generator, self._spread = generator, spread
        self._keys = rng.keys(seed, "anchors", 0, count)

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        latents = self._generator.latents(keys)
        chosen = [self._keys[key % len(self._keys)] for key in keys]
        return latents._replace(z=self._generator.latents(chosen).z + self._spread * latents.z)

    def penalties(self) -> Mapping[str, Tensor]:
        return self._generator.penalties()

    def __call__(self, latents: Latents, labels_B: Tensor) -> GenOut:
        return self._generator(latents, labels_B)


@register("players", "anchors")
class Anchors(Players):
    """In one step of `every`, whole images near the anchors; in the others, patches of images from any z.

    Args:
        count: fixed z, the anchors.
        spread: standard deviation of z around its anchor.
        every: counts steps; one in so many is on whole images near anchors.
        patch_blocks: blocks of D in front of the patch head; 3 at 256 px.

    Raises: UserError for a discriminator that cannot judge patches.
    """

    excludes: ClassVar = FINE_TUNING
    trains_same_parameters = False

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        seed: int,
        *,
        count: Count = 10,
        spread: Weight = 0.1,
        every: Count = 4,
        patch_blocks: Count = 3,
    ) -> None:
        super().__init__(generator, discriminator, seed)
        self._every = every
        self._anchored = AnchoredGenerator(generator, count, spread, seed)
        self.critic = self.patches = PatchDiscriminator(discriminator, patch_blocks, seed)

    def opponents(self, step: int, kimg: float) -> Opponents:
        if step % self._every == 0:
            return Opponents(self._anchored, self.discriminator, self.patches.idle(whole=True))
        return Opponents(self.generator, self.patches, self.patches.idle(whole=False))
