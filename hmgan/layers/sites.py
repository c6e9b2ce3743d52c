"""Modulatable layers: without an edit, the source exactly. B batch, R rows, O/I channels out and in, k kernel size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.edits import Edits
from hmgan.layers.equalized import EqualLinear, he_gain, instance_norm, unboxed
from hmgan.types import Site


class WeightSite(nn.Module):
    """A layer whose weight and bias a modulation may replace per class."""

    weight: Tensor
    bias: Tensor
    gain = 1.0
    axes: tuple[int, ...] = (2, 3)  # of the weight, over which its statistics are taken
    additive = False  # whether a class adds to the weight, in place of a scale and shift of it normalised

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def site(self) -> Site:
        """The layer, as it acts."""
        return Site(self.effective_weight(), self.bias, self.gain, self.axes, self.additive)

    def effective_weight(self) -> Tensor:
        """The weight, as it acts."""
        return self.weight * self.gain


class LayerSite(WeightSite, ABC):
    """A site that is a function of its input alone."""

    def forward(self, x: Tensor, edits: Edits) -> Tensor:
        edit = edits.weights.get(self.name)
        if edit is None:
            return self.act(x, self.effective_weight(), self.bias)
        weights_R, biases_R = edit.weights(self.weight, self.bias)
        rows = zip(x.split(edits.counts), weights_R, biases_R, strict=True)
        return torch.cat([self.act(x_r, weight, bias) for x_r, weight, bias in rows if len(x_r)])

    @abstractmethod
    def act(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The layer's function under one effective weight and bias."""


class ConvSite(LayerSite):
    """A convolution whose kernel is turned as its function wants it; passes by kernels take the parts one by one.

    Of a transposed one the inputs come first: [I, O, k, k]. Where an engine divides its parameters they are whole while
    it is called, so that `way`, which computes in its place, is handed in.
    """

    up = 0.0  # what `own` multiplies sums of 2x2 pixels by; 0 where it takes none
    transposed = False
    flipped = False

    def forward(self, x: Tensor, edits: Edits, way: Way | None = None) -> Tensor:
        return self.own(x, edits) if way is None else way(x, self, edits)

    def own(self, x: Tensor, edits: Edits) -> Tensor:
        """The layer as it is."""
        return super().forward(x, edits)

    def act(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.convolved(x, self.turned(weight), bias)

    def turned(self, weight_OIkk: Tensor) -> Tensor:
        """An effective weight as `convolved` takes it."""
        weight = weight_OIkk.flip(2, 3) if self.flipped else weight_OIkk
        return weight.transpose(0, 1) if self.transposed else weight

    @abstractmethod
    def convolved(self, x: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's function, but for what `own` does to the samples of all classes at once."""


Way = Callable[[Tensor, ConvSite, Edits], Tensor]


class SiteConv2d(ConvSite):
    """A 3x3 convolution.

    Args:
        up: 0 keeps the resolution. Otherwise doubles it by a transposed convolution, whose 2x2 pixels are summed and
            multiplied by `up`: 1 for nearest up-sampling before the 3x3, 1/4 for StyleGAN's fused layer.

    Shapes: x [B, I, H, W] -> [B, O, H, W], or [B, O, 2H, 2W].
    """

    def __init__(self, name: str, inputs: int, outputs: int, up: float = 0.0) -> None:
        super().__init__(name)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = he_gain(inputs * 9)
        self.up, self.transposed, self.flipped = up, bool(up), bool(up)

    def own(self, x: Tensor, edits: Edits) -> Tensor:
        h = super().own(x, edits)
        return unboxed(h, round(1 / self.up)) if self.up else h

    def convolved(self, x: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        """Where it doubles the resolution: what `own` sums over 2x2 pixels, of all classes at once."""
        if not self.up:
            return F.conv2d(x, turned, bias, padding=1)
        return F.conv_transpose2d(x, turned, None if bias is None else bias / (4 * self.up), stride=2)


class SiteLinear(LayerSite):
    """A linear layer with PyTorch's own initialisation. x [B, I] -> [B, O].

    Its statistics are those of an output's row, over the inputs: mFiLM of GAN Memory (Cong et al. 2020).
    """

    axes = (1,)

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name)
        layer = nn.Linear(inputs, outputs)
        self.weight, self.bias = layer.weight, layer.bias

    def act(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(x, weight, bias)


class SiteAdaIN(nn.Module):
    """Adaptive instance normalisation by the style. x [B, C, H, W], w [B, W] -> [B, C, H, W]."""

    def __init__(self, name: str, channels: int, w_dim: int) -> None:
        super().__init__()
        self.name, self.channels = name, channels
        self.style = EqualLinear(w_dim, 2 * channels)
        with torch.no_grad():
            self.style.bias[:channels] = 1.0

    def forward(self, x: Tensor, w_BW: Tensor, edits: Edits) -> Tensor:
        return instance_norm(x, *self.scale_and_shift(w_BW, edits))

    def scale_and_shift(self, w_BW: Tensor, edits: Edits) -> tuple[Tensor, Tensor]:
        """[B, C] each."""
        scale_BC, shift_BC = self.style(w_BW).chunk(2, 1)
        edit = edits.styles.get(self.name)
        return (scale_BC, shift_BC) if edit is None else edit.style(scale_BC, shift_BC, edits.counts)

    def fold(self, mix_CSS: Tensor, offset_CS: Tensor) -> None:
        """Takes style' = M style + t per channel into the linear layer that makes the style, S scale and shift."""
        weight_CSW = self.style.weight.unflatten(0, (2, -1)).transpose(0, 1)
        bias_CS = self.style.bias.unflatten(0, (2, -1)).T
        self.style.weight.copy_((mix_CSS @ weight_CSW).transpose(0, 1).flatten(0, 1))
        self.style.bias.copy_((torch.einsum("cij,cj->ci", mix_CSS, bias_CS) + offset_CS).T.flatten())
