"""GP-GAN's residual discriminator (Mescheder et al. 2018), the one that GAN Memory (Cong et al. 2020) trains."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.backbones.gan_memory_resnet import ResidualBlock, residual_widths
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.layers.equalized import leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.types import Count


@register("discriminator", "gan-memory-resnet")
class GANMemoryDiscriminator(Discriminator):
    """A 7x7 from RGB, a residual block per resolution with average pooling between, and a head on the last 4x4 map.

    Args:
        resolution: input pixels, a power of two from 4 to 1024.
        channels: width per resolution, 4 px first; the original's where left out.

    Shapes: images [B, 3, H, W] -> embeddings [B, 16 C].
    Raises: UserError for a resolution or widths that do not fit.
    """

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        resolution: Count = 256,
        channels: list[Count] | None = None,
    ) -> None:
        super().__init__()
        widths = residual_widths(resolution, channels)[::-1]
        self.from_rgb = nn.Conv2d(3, widths[0], 7, padding=3)
        self.blocks = nn.ModuleList(
            ResidualBlock(f"blocks.{i}", widths[max(i - 1, 0)], width) for i, width in enumerate(widths)
        )
        self.head = make_head(16 * widths[-1], classes)

    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        h = self.blocks[0](self.from_rgb(images))
        for block in self.blocks[1:]:
            h = block(F.avg_pool2d(h, 3, stride=2, padding=1))
        with unrounded(h):
            return leaky_relu(widened(h)).flatten(1)
