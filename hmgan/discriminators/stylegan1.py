"""StyleGAN's discriminator, as its PyTorch port computes it. B batch, C channels, H/W pixels, F embedding width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.backbones.stylegan1 import block_widths
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.deviation import MinibatchDeviation
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.layers.equalized import Blur, EqualConv2d, leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.passes import Passing
from hmgan.types import Count, Whole


class DownBlock(Passing):
    """3x3 convolution, blur, and a 3x3 whose result is averaged over 2x2 pixels. [B, C, 2H, 2W] -> [B, C', H, W]."""

    def __init__(self, inputs: int, between: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(inputs, between, 3, padding=1)
        self.blur = Blur()
        self.conv2 = EqualConv2d(between, outputs, 3, padding=1, down=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.passes.halved(x, self.conv1, self.blur, self.conv2)


@register("discriminator", "stylegan1")
class StyleGAN1Discriminator(Discriminator, Passing):
    """From-RGB, down-sampling blocks, minibatch standard deviation, and a head.

    Args:
        resolution: input pixels, a power of two from 8 to 1024.
        channels: width per resolution, 4 px first; the port's where left out.
        rgb_activation: whether from-RGB is followed by a leaky ReLU (the port has both kinds).
        widen_first: whether a block's first convolution takes it to the next width, as in the port, or its second, as
            in the original.
        stddev_group: samples per minibatch-stddev group; 0 takes the whole batch, as the port does.

    Raises: UserError for a resolution or widths that do not fit.
    """

    judges_patches = True
    cpu_layout = torch.channels_last

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        resolution: Count = 256,
        channels: list[Count] | None = None,
        rgb_activation: bool = True,
        widen_first: bool = True,
        stddev_group: Whole = 4,
    ) -> None:
        super().__init__()
        widths = block_widths(resolution, channels)
        self.rgb_activation = rgb_activation
        self.deviation, self.mixes_batch = MinibatchDeviation(stddev_group), stddev_group == 0
        self.from_rgb = EqualConv2d(3, widths[-1], 1)
        self.blocks = nn.ModuleList(
            DownBlock(widths[i], widths[i - 1] if widen_first else widths[i], widths[i - 1])
            for i in range(len(widths) - 1, 0, -1)
        )
        self.conv1 = EqualConv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.conv2 = EqualConv2d(widths[0], widths[0], 4)
        self.head = make_head(widths[0], classes)

    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        h = self.maps(images, len(self.blocks))
        with unrounded(h):  # from the batch's statistics on: at 4 px this costs nothing
            h = leaky_relu(self.conv1(self.deviation(widened(h), labels, batches)))
            return leaky_relu(self.conv2(h)).flatten(1)

    def maps(self, images: Tensor, blocks: int) -> Tensor:
        """What the first blocks make of images: [B, 3, H, W] -> [B, C, H / 2^blocks, W / 2^blocks]."""
        h = self.passes.leaky(images, self.from_rgb) if self.rgb_activation else self.from_rgb(images)
        for block in self.blocks[:blocks]:
            h = block(h)
        return h
