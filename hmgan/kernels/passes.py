"""D's passes by kernels: biases leave the convolutions, and every map is written once and read once between them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hmgan.kernels.leaky_fir import leaky_fir
from hmgan.kernels.stencil import BLUR_BOX, NONE
from hmgan.layers.equalized import Blur, EqualConv2d
from hmgan.layers.passes import Passes


def leaky(x: Tensor, conv: EqualConv2d) -> Tensor:
    """`hmgan.layers.passes.leaky`; the result lies channels last."""
    return leaky_fir(F.conv2d(x, conv.kernel(), padding=conv.padding), conv.bias, NONE)


def halved(x: Tensor, conv: EqualConv2d, _: Blur, down: EqualConv2d) -> Tensor:
    """`hmgan.layers.passes.halved`; the mean of 2x2 pixels joins the blur."""
    blurred = leaky_fir(F.conv2d(x, conv.kernel(), padding=conv.padding), conv.bias, BLUR_BOX)
    return leaky_fir(F.conv2d(blurred, down.kernel(), stride=2), down.bias, NONE)


BY_KERNELS = Passes(leaky, halved)
