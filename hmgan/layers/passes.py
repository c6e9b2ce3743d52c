"""How convolutions are computed with what follows them: layer by layer, or by kernels that make one pass of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from hmgan.layers.equalized import Blur, EqualConv2d, leaky_relu, leaky_relu_by_sign


class Passes(NamedTuple):
    """One way of computing; all give the same, but for rounding."""

    leaky: Callable[[Tensor, EqualConv2d], Tensor]  # convolution, leaky ReLU
    halved: Callable[[Tensor, EqualConv2d, Blur, EqualConv2d], Tensor]  # the same with a blur, and then half the size


def leaky(x: Tensor, conv: EqualConv2d) -> Tensor:
    """Shapes: x [B, I, H, W] -> [B, O, H, W]."""
    return leaky_relu(conv(x))


def halved(x: Tensor, conv: EqualConv2d, blur: Blur, down: EqualConv2d) -> Tensor:
    """Shapes: x [B, I, 2H, 2W] -> [B, O, H, W]."""
    return leaky_relu(down(blur(leaky_relu_by_sign(conv(x)))))


BY_LAYERS = Passes(leaky, halved)


class Passing(nn.Module):
    """A module that computes by whichever passes it is given."""

    passes: Passes = BY_LAYERS
