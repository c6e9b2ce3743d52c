"""Modulatable layers: they know their name, look their edit up, and are the source exactly where there is none.

Legend: B batch, R rows (distinct classes), O/I channels out and in, k kernel size, H/W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.edits import Edits
from hmgan.layers.equalized import EqualLinear, four_shifts, he_gain, instance_norm
from hmgan.types import Site


class SiteConv2d(nn.Module):
    """A 3x3 convolution whose weights a modulation may replace per class.

    Args:
        up: 0 keeps the resolution. Otherwise doubles it by one transposed convolution whose kernel is the sum of
            the four one-pixel shifts of the 3x3 times `up`: 1 for nearest up-sampling followed by the 3x3,
            1/4 for StyleGAN's fused layer. Modulate first, fuse afterwards.

    Shapes: x [B, I, H, W] -> [B, O, H, W], or [B, O, 2H, 2W].
    """

    def __init__(self, name: str, inputs: int, outputs: int, up: float = 0.0) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = he_gain(inputs * 9)
        self.up = up

    def site(self) -> Site:
        return Site(self.effective_weight(), self.bias, self.gain)

    def effective_weight(self) -> Tensor:
        """[O, I, k, k], as it acts."""
        return self.weight * self.gain

    def forward(self, x: Tensor, edits: Edits) -> Tensor:
        edit = edits.weights.get(self.name)
        if edit is None:
            return self._conv(x, self.effective_weight(), self.bias)
        weight_ROIkk, bias_RO = edit.weights(self.weight, self.bias)
        return self._conv_rows(x, weight_ROIkk, bias_RO, edits.counts)

    def _conv(self, x: Tensor, weight_OIkk: Tensor, bias_O: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, weight_OIkk, bias_O, padding=1)
        kernel = four_shifts(weight_OIkk, self.up, flip=True).transpose(0, 1)
        return F.conv_transpose2d(x, kernel, bias_O, stride=2, padding=1)

    def _conv_rows(self, x: Tensor, weight_ROIkk: Tensor, bias_RO: Tensor, counts: tuple[int, ...]) -> Tensor:
        rows = zip(x.split(counts), weight_ROIkk, bias_RO, strict=True)
        return torch.cat([self._conv(x_r, weight_r, bias_r) for x_r, weight_r, bias_r in rows if len(x_r)])


class SiteAdaIN(nn.Module):
    """Adaptive instance normalisation by the style w, which the modulation may edit.

    Shapes: x [B, C, H, W], w [B, W] -> [B, C, H, W].
    """

    def __init__(self, name: str, channels: int, w_dim: int) -> None:
        super().__init__()
        self.name = name
        self.channels = channels
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


class SiteLinear(nn.Module):
    """A linear layer whose weights a modulation may replace per class, with PyTorch's own initialisation.

    Its statistics are those of an output's row, over the inputs: mFiLM of GAN Memory (Cong et al. 2020).

    Shapes: x [B, I] -> [B, O].
    """

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.name = name
        layer = nn.Linear(inputs, outputs)
        self.weight, self.bias = layer.weight, layer.bias

    def site(self) -> Site:
        return Site(self.weight, self.bias, 1.0, (1,))

    def forward(self, x: Tensor, edits: Edits) -> Tensor:
        edit = edits.weights.get(self.name)
        if edit is None:
            return F.linear(x, self.weight, self.bias)
        weight_ROI, bias_RO = edit.weights(self.weight, self.bias)
        rows = zip(x.split(edits.counts), weight_ROI, bias_RO, strict=True)
        return torch.cat([F.linear(x_r, weight_OI, bias_O) for x_r, weight_OI, bias_O in rows if len(x_r)])
