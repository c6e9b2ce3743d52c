"""The judge's network: four convolutions. B batch, C channels, H/W pixels, F features."""

from __future__ import annotations

import torch.nn.functional as fn
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Convolution, ReLU and a mean over 2x2 pixels, four times; then the mean over what pixels are left.

    Shapes: [B, 3, H, W] float RGB in 0..255 -> [B, 64].
    """

    dim = 64

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in ((3, 32), (32, 64), (64, 64), (64, self.dim))
        )

    def forward(self, rgb_B3HW: Tensor) -> Tensor:
        x_BCHW = rgb_B3HW / 127.5 - 1
        for conv in self.convs:
            x_BCHW = fn.avg_pool2d(fn.relu(conv(x_BCHW)), 2)
        return x_BCHW.mean(dim=(2, 3))
