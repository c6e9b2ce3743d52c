"""Layers whose inputs are scaled by a style (Karras et al. 2020a), as sites. B batch, R rows, I/O channels in and out.

Edits come before the demodulation, which takes the norms of the edited weights; a class's bias comes after it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.edits import Edits, per_sample
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.sites import WeightSite

EPSILON = 1e-8


class Linear(nn.Module):
    """x @ (W lr / sqrt(I))^T + b lr, W of deviation 1 / lr at first. [B, I] -> [B, O]."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, lr_mult: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mult)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mult))
        self.gain, self.lr_mult = lr_mult / math.sqrt(inputs), lr_mult

    def forward(self, x: Tensor) -> Tensor:
        with unrounded(x):  # mapping, styles, logits: small, and all else depends on them
            return F.linear(widened(x) * self.gain, self.weight, self.bias * self.lr_mult)


class SiteStyle(Linear):
    """The style of a layer, a factor per input channel: an affine map of w. [B, W] -> [B, I].

    To a modulation it is the shift of a norm whose scale is 1: (1 + a) s + t is AdaIN's edit.
    """

    def __init__(self, name: str, w_dim: int, channels: int) -> None:
        super().__init__(w_dim, channels, bias=1.0)
        self.name, self.channels = name, channels

    def style(self, w_NW: Tensor) -> Tensor:
        """Scale and shift [N, 2 I] of styles; the scale is 1."""
        style_NI = super().forward(w_NW)
        return torch.cat([torch.ones_like(style_NI), style_NI], 1)

    def edited(self, w_BW: Tensor, edits: Edits) -> Tensor:
        """[B, I], as the class has it."""
        style_BI = self(w_BW)
        edit = edits.styles.get(self.name)
        return style_BI if edit is None else edit.style(torch.ones_like(style_BI), style_BI, edits.counts)[1]

    def fold(self, mix_CSS: Tensor, offset_CS: Tensor) -> None:
        """Takes style' = M style + t per channel, of which this is the shift beside a scale of 1, S scale and shift."""
        self.weight.mul_(mix_CSS[:, 1, 1, None])
        self.bias.mul_(mix_CSS[:, 1, 1]).add_(mix_CSS[:, 1, 0] + offset_CS[:, 1])


class ModulatedConv2d(WeightSite):
    """Scales inputs by the style, convolves once per class, and scales outputs to an expected deviation of 1.

    Args:
        kernel: pixels; 1x1 kernels take their statistics over all inputs, for one tap has none.
        up: doubles the resolution by a transposed convolution, which leaves 2H + 1 pixels to be filtered.
        padding: pixels of zeros; (k - 1) / 2 where left out.
        demodulate: whether outputs are scaled. Where they are not, a class adds to the weight.
        relative: whether epsilon is in units of the weight's and the style's mean squares, which is StyleGAN3's
            normalisation of both.

    Shapes: x [B, I, H, W], w [B, W] -> ([B, O, H', W'], bias [B or 1, O]).
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        w_dim: int,
        kernel: int = 3,
        *,
        up: bool = False,
        padding: int | None = None,
        demodulate: bool = True,
        relative: bool = False,
    ) -> None:
        super().__init__(name)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = SiteStyle(f"{name}.affine", w_dim, inputs)
        self.up, self.demodulate, self.relative = up, demodulate, relative
        self.padding = kernel // 2 if padding is None else padding
        self.additive = not demodulate
        self.axes = (2, 3) if kernel > 1 else (1, 2, 3)
        # A layer that is not demodulated has its gain on the style in the original: the same product.
        self.gain = 1.0 if demodulate else 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w_BW: Tensor, edits: Edits, gain: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """The convolution times `gain`, and the bias beside it."""
        with unrounded(x):
            style_BI = self.affine.edited(w_BW, edits)
            weight_ROIkk, bias_RO, energy_ROI = self._rows(edits)
            edited = self.name in edits.weights
            counts = edits.counts if edited else (x.shape[0],)  # a number that an exporter can follow
            factor_BO = None if energy_ROI is None else gain * self._demodulation(style_BI, energy_ROI, counts)
            bias_BO = per_sample(bias_RO, counts) if edited else bias_RO
            style_BI = style_BI * gain if energy_ROI is None else style_BI
        scaled = x * style_BI.to(x.dtype)[..., None, None]
        if len(counts) == 1:
            y = self._convolution(scaled, weight_ROIkk[0])
        else:
            # One convolution per class: a kernel per sample costs twice as much and more.
            rows = zip(scaled.split(counts), weight_ROIkk, strict=True)
            outputs = [self._convolution(x_r, weight_OIkk) for x_r, weight_OIkk in rows if len(x_r)]
            y = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return (y if factor_BO is None else y * factor_BO.to(y.dtype)[..., None, None]), bias_BO

    def _rows(self, edits: Edits) -> tuple[Tensor, Tensor, Tensor | None]:
        """The weights of every row, their biases, and where outputs are scaled the sums of their kernels' squares."""
        edit = edits.weights.get(self.name)
        if edit is None:
            weight_ROIkk = self.effective_weight()[None]
            return weight_ROIkk, self.bias[None], weight_ROIkk.square().sum((3, 4)) if self.demodulate else None
        weight_ROIkk, bias_RO = edit.weights(self.weight, self.bias)
        return weight_ROIkk, bias_RO, edit.energy(weight_ROIkk) if self.demodulate else None

    def _demodulation(self, style_BI: Tensor, energy_ROI: Tensor, counts: tuple[int, ...]) -> Tensor:
        """D = rsqrt(sum over inputs of s^2 Q + epsilon), [B, O], by the class's own Q."""
        square_BI = style_BI.square()
        parts = [square_BI] if len(counts) == 1 else square_BI.split(counts)
        power_BO = torch.cat([square_rI @ energy_OI.T for square_rI, energy_OI in zip(parts, energy_ROI, strict=True)])
        if not self.relative:
            return (power_BO + EPSILON).rsqrt()
        # Per sample: the original's mean over the batch cancels but for epsilon, and would tie samples to each other.
        mean_RO = energy_ROI.mean(2) / self.weight[0, 0].numel()
        mean_BO = mean_RO if len(counts) == 1 else per_sample(mean_RO, counts)
        floor_BO = mean_BO * square_BI.mean(1, keepdim=True)
        return (power_BO + EPSILON * floor_BO).rsqrt()

    def _convolution(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.up:
            return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return F.conv2d(x, weight, padding=self.padding)
