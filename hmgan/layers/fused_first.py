"""An up-sampling site whose kernel is fused before it is modulated. O/I channels out and in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.equalized import he_gain
from hmgan.layers.sites import ConvSite


class FusedFirst(ConvSite):
    """Doubles the resolution by a transposed 4x4 convolution, whose 16 taps a modulation sees.

    The released code of Hyper-Modulation averages a 3x3's four one-pixel shifts first, modulates what comes out, and
    takes the gain of the transposed layout. Models trained that way draw what they drew only if this does the same.

    Shapes: x [B, I, H, W] -> [B, O, 2H, 2W].
    """

    transposed = True

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 4, 4))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = he_gain(16 * outputs)

    def convolved(self, x: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv_transpose2d(x, turned, bias, stride=2, padding=1)
