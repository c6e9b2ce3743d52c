"""How convolutions are computed with what follows them: layer by layer, or by kernels that make one pass of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from hmgan.layers.edits import Edits
from hmgan.layers.equalized import Blur, EqualConv2d, leaky_relu, leaky_relu_by_sign
from hmgan.layers.sites import ConvSite


class Styling(NamedTuple):
    """What a map of G is given after its convolution: noise, and the scale and shift that follow its norm."""

    strength_C: Tensor
    noise_B1HW: Tensor
    scale_BC: Tensor
    shift_BC: Tensor


Finishing = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # of a map, under its styling


class Passes(NamedTuple):
    """One way of computing; all give the same, but for rounding."""

    leaky: Callable[[Tensor, EqualConv2d], Tensor]  # convolution, leaky ReLU
    halved: Callable[[Tensor, EqualConv2d, Blur, EqualConv2d], Tensor]  # the same with a blur, and then half the size
    # of G: convolution under edits, blur, and what finishes a map; the first two may be left out
    styled: Callable[[Tensor, ConvSite | None, Edits, Blur | None, Finishing, Styling], Tensor]


def leaky(x: Tensor, conv: EqualConv2d) -> Tensor:
    """Shapes: x [B, I, H, W] -> [B, O, H, W]."""
    return leaky_relu(conv(x))


def halved(x: Tensor, conv: EqualConv2d, blur: Blur, down: EqualConv2d) -> Tensor:
    """Shapes: x [B, I, 2H, 2W] -> [B, O, H, W]."""
    return leaky_relu(down(blur(leaky_relu_by_sign(conv(x)))))


def styled(
    x: Tensor, conv: ConvSite | None, edits: Edits, blur: Blur | None, finish: Finishing, styling: Styling
) -> Tensor:
    """Shapes: x [B, I, H, W] -> [B, O, H, W], or twice the size."""
    h = x if conv is None else conv(x, edits)
    return finish(h if blur is None else blur(h), *styling)


BY_LAYERS = Passes(leaky, halved, styled)


class Passing(nn.Module):
    """A module that computes by whichever passes it is given."""

    passes: Passes = BY_LAYERS
