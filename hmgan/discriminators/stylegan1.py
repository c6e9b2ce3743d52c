"""StyleGAN's discriminator, as its PyTorch port computes it. B batch, C channels, H/W pixels, F embedding width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.backbones.stylegan1 import block_widths
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.errors import UserError
from hmgan.layers.equalized import Blur, EqualConv2d, leaky_relu, leaky_relu_by_sign
from hmgan.layers.float32 import unrounded, widened


def minibatch_stddev(x: Tensor, group: int, batches: int = 1) -> Tensor:
    """Appends one channel: the standard deviation over each group of samples, averaged over everything else.

    Groups are consecutive samples, so that it does not matter how a global batch is split over ranks.

    Args:
        group: samples per group; 0 takes the whole batch, as the port does.
        batches: how many batches of one size x holds; no group spans two.
    Raises: UserError if a batch is not a whole number of groups.
    """
    total, channels, height, width = x.shape
    batch = total // batches
    size = group or batch
    if batch % size:
        raise UserError(f"stddev_group {size} does not divide the batch of {batch}; change train.batch or stddev_group")
    var = x.view(total // size, size, channels, height, width).var(1, correction=0)
    mean_G = (var + 1e-8).sqrt().mean((1, 2, 3))
    extra = mean_G.repeat_interleave(size)[:, None, None, None].expand(total, 1, height, width)
    return torch.cat([x, extra], 1)


class DownBlock(nn.Module):
    """3x3 convolution, blur, and a 3x3 whose result is averaged over 2x2 pixels. [B, C, 2H, 2W] -> [B, C', H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = EqualConv2d(inputs, outputs, 3, padding=1)
        self.blur = Blur()
        self.conv2 = EqualConv2d(outputs, outputs, 3, padding=1, down=True)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.conv2(self.blur(leaky_relu_by_sign(self.conv1(x)))))


@register("discriminator", "stylegan1")
class StyleGAN1Discriminator(Discriminator):
    """From-RGB, down-sampling blocks, minibatch standard deviation, and a head.

    Args:
        resolution: input pixels, a power of two from 8 to 1024.
        channels: width per resolution, 4 px first; the port's where left out.
        rgb_activation: whether from-RGB is followed by a leaky ReLU (the port has both kinds).
        stddev_group: samples per minibatch-stddev group; 0 takes the whole batch, as the port does.

    Raises: UserError for a resolution or widths that do not fit.
    """

    judges_patches = True

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        resolution: int = 256,
        channels: list[int] | None = None,
        rgb_activation: bool = True,
        stddev_group: int = 4,
    ) -> None:
        super().__init__()
        widths = block_widths(resolution, channels)
        self.rgb_activation = rgb_activation
        self.stddev_group, self.mixes_batch = stddev_group, stddev_group == 0
        self.from_rgb = EqualConv2d(3, widths[-1], 1)
        self.blocks = nn.ModuleList(DownBlock(widths[i], widths[i - 1]) for i in range(len(widths) - 1, 0, -1))
        self.conv1 = EqualConv2d(widths[0] + 1, widths[0], 3, padding=1)
        self.conv2 = EqualConv2d(widths[0], widths[0], 4)
        self.head = make_head(widths[0], classes)

    def embeddings(self, images: Tensor, batches: int) -> Tensor:
        h = self.maps(images, len(self.blocks))
        with unrounded(h):  # from the batch's statistics on: at 4 px this costs nothing
            h = leaky_relu(self.conv1(minibatch_stddev(widened(h), self.stddev_group, batches)))
            return leaky_relu(self.conv2(h)).flatten(1)

    def maps(self, images: Tensor, blocks: int) -> Tensor:
        """What the first blocks make of images: [B, 3, H, W] -> [B, C, H / 2^blocks, W / 2^blocks]."""
        h = self.from_rgb(images)
        if self.rgb_activation:
            h = leaky_relu(h)
        for block in self.blocks[:blocks]:
            h = block(h)
        return h
