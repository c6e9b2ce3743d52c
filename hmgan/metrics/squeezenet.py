"""The SqueezeNet v1.1 trunk as the original Caffe model lays it out. B batch, C channels, H/W pixels, F features.

Source: Iandola et al. 2016, arXiv:1602.07360, and the v1.1 `train_val.prototxt`: conv1 has no padding, and Caffe rounds
pooled sizes up, so every pool is in ceil mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor, nn


class Fire(nn.Module):
    """Squeeze by 1x1 to few channels, expand by 1x1 and 3x3 side by side: [B, C, H, W] -> [B, 2 * expand, H, W]."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        squeezed = fn.relu(self.squeeze1x1(x_BCHW))
        return torch.cat([fn.relu(self.expand1x1(squeezed)), fn.relu(self.expand3x3(squeezed))], dim=1)


class SqueezeNet(nn.Module):
    """Trunk up to fire9 and a global average pool.

    Args:
        mean: the training data's mean per channel in 0..255, in BGR order.

    Shapes: [B, 3, H, W] float RGB in 0..255 -> [B, 512].
    """

    dim = 512

    def __init__(self, *, mean: Sequence[float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        self.fire2 = Fire(64, 16, 64)
        self.fire3 = Fire(128, 16, 64)
        self.fire4 = Fire(128, 32, 128)
        self.fire5 = Fire(256, 32, 128)
        self.fire6 = Fire(256, 48, 192)
        self.fire7 = Fire(384, 48, 192)
        self.fire8 = Fire(384, 64, 256)
        self.fire9 = Fire(512, 64, 256)

    def forward(self, rgb_B3HW: Tensor) -> Tensor:
        return self.layers(rgb_B3HW)[-1].mean(dim=(2, 3))

    def layers(self, rgb_B3HW: Tensor) -> list[Tensor]:
        """Activations of conv1, fire3, fire5, fire7 and fire9, each before its pool: [B, C, H, W]."""
        x = rgb_B3HW.flip(1) - self.mean  # Caffe models see BGR.
        first = fn.relu(self.conv1(x))
        third = self.fire3(self.fire2(_pool(first)))
        fifth = self.fire5(self.fire4(_pool(third)))
        seventh = self.fire7(self.fire6(_pool(fifth)))
        return [first, third, fifth, seventh, self.fire9(self.fire8(seventh))]


def _pool(x_BCHW: Tensor) -> Tensor:
    return fn.max_pool2d(x_BCHW, kernel_size=3, stride=2, ceil_mode=True)
