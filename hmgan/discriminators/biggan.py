"""BigGAN's discriminator (Brock et al. 2019). B batch, C channels, H/W pixels, F embedding width."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.backbones.gan_memory_resnet import residual_widths
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.spectral import SpectralConv2d, attention_at
from hmgan.types import Count, Whole


class DBlock(nn.Module):
    """Two 3x3 beside a 1x1 shortcut, then the mean of 2x2 pixels; the first block begins without an activation."""

    def __init__(self, inputs: int, outputs: int, first: bool, down: bool) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1 = SpectralConv2d(inputs, outputs, 3)
        self.conv2 = SpectralConv2d(outputs, outputs, 3)
        self.shortcut = SpectralConv2d(inputs, outputs, 1) if inputs != outputs or down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(self.conv1(x if self.first else x.relu()).relu()) + self.shortcut(x)
        return F.avg_pool2d(h, 2) if self.down else h


@register("discriminator", "biggan")
class BigGANDiscriminator(Discriminator):
    """Residual blocks down to 4 px, a sum over pixels, and a head; the original's is `disc_head = "projection"`.

    Args:
        resolution: input pixels, a power of two from 8 to 1024.
        channels: width per resolution, 4 px first.
        attention: pixels behind whose block self-attention stands; 0 for none.

    Shapes: images [B, 3, H, W] -> embeddings [B, C].
    Raises: UserError for a resolution or widths that do not fit.
    """

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        resolution: Count = 128,
        channels: list[Count] | None = None,
        attention: Whole = 0,
    ) -> None:
        super().__init__()
        widths = residual_widths(resolution, channels)[::-1]
        self.from_rgb = DBlock(3, widths[0], first=True, down=True)
        self.blocks = nn.ModuleList(
            DBlock(inputs, outputs, first=False, down=i < len(widths) - 1)
            for i, (inputs, outputs) in enumerate(pairwise(widths), 1)
        )
        self.attention = attention_at(attention, [resolution >> i for i in range(1, len(widths))], widths[:-1])
        self.head = make_head(widths[-1], classes)

    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        h = self.from_rgb(images)
        for attention, block in zip(self.attention, self.blocks, strict=True):
            h = block(attention(h))
        with unrounded(h):
            return widened(h).relu().sum((2, 3))
