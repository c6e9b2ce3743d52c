"""What a modulation hands to the source. R rows (distinct classes), B batch, O/I channels out and in, k kernel size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hmgan import host


class WeightEdit(Protocol):
    """Replaces a convolution's weight and bias, a row per class."""

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        """The site's weight without its gain [O, I, k, k], and bias [O] -> as they act, [R, O, I, k, k] and [R, O]."""
        ...

    def energy(self, weight_ROIkk: Tensor) -> Tensor:
        """Each kernel's sum of squares, [R, O, I], of what `weights` made: what a demodulation needs."""
        return weight_ROIkk.square().sum((3, 4))

    def tables(self, weight_OIkk: Tensor) -> Tables | None:
        """What `weights` makes its kernels of, where that is a scale and a shift of normalised ones."""
        return None


class Tables(NamedTuple):
    """Kernels that are yet to be made: scale * normal + shift."""

    normal_OIkk: Tensor
    scale_ROI: Tensor
    shift_ROI: Tensor
    bias_RO: Tensor  # beside the layer's own


class StyleEdit(Protocol):
    """Changes the scale and shift of a normalisation, a row per class."""

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The norm's own scale and shift -> the edited ones, [B, C] each."""


@dataclass(frozen=True)
class Edits:
    """R rows of edits: of a batch sorted by row, `counts[r]` consecutive samples belong to row r. None: the source."""

    weights: Mapping[str, WeightEdit] = field(default_factory=dict)
    styles: Mapping[str, StyleEdit] = field(default_factory=dict)
    label_RL: Tensor | None = None  # of a class, what the mapping takes beside z
    rows: int = 0
    counts: tuple[int, ...] = ()


SOURCE = Edits()


@dataclass(frozen=True)
class AdaFM(WeightEdit):
    """W_v = gamma_v * (W - mu) / sigma + beta_v and b_v_hat = b + b_v (Eqs. 4 and 5).

    The energy of a normalised kernel, [O, I], is kept where it is known; its mean is 0.
    """

    normal_OIkk: Tensor
    scale_ROI: Tensor
    shift_ROI: Tensor
    bias_RO: Tensor
    energy_OI: Tensor | None = None

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        taps = (..., *[None] * (self.normal_OIkk.dim() - 2))
        return torch.addcmul(self.shift_ROI[taps], self.scale_ROI[taps], self.normal_OIkk), bias_O + self.bias_RO

    def tables(self, weight_OIkk: Tensor) -> Tables:
        return Tables(self.normal_OIkk, self.scale_ROI, self.shift_ROI, self.bias_RO)

    def energy(self, weight_ROIkk: Tensor) -> Tensor:
        """gamma^2 sum_k normal_k^2 + k^2 beta^2: no kernel is read."""
        if self.energy_OI is None:
            return super().energy(weight_ROIkk)
        taps = self.normal_OIkk[0, 0].numel()
        return torch.addcmul(taps * self.shift_ROI.square(), self.energy_OI, self.scale_ROI.square())


@dataclass(frozen=True)
class Added(WeightEdit):
    """W_v = W + D_v and b_v_hat = b + b_v, for a weight without kernels to normalise."""

    gain: float
    change_R: Tensor  # [R, ...], as the weight has it
    bias_RO: Tensor

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        return torch.add(self.change_R, weight_OIkk, alpha=self.gain), bias_O + self.bias_RO


@dataclass(frozen=True)
class LiveAdaFM(WeightEdit):
    """AdaFM of a weight that trains, and so is normalised at every use."""

    epsilon: float
    scale_ROI: Tensor
    shift_ROI: Tensor
    bias_RO: Tensor
    axes: tuple[int, ...] = (2, 3)

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        return AdaFM(*self.tables(weight_OIkk)).weights(weight_OIkk, bias_O)

    def tables(self, weight_OIkk: Tensor) -> Tables:
        # The gain cancels in the quotient, so the bare weight will do.
        mean, std = kernel_statistics(weight_OIkk, self.axes)
        return Tables((weight_OIkk - mean) / (std + self.epsilon), self.scale_ROI, self.shift_ROI, self.bias_RO)


def kernel_statistics(weight: Tensor, axes: tuple[int, ...] = (2, 3)) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation over `axes`: of every kernel [O, I, 1, 1], or of every row [O, 1]."""
    std, mean = torch.std_mean(weight, axes, correction=1, keepdim=True)
    return mean, std


@dataclass(frozen=True)
class ClassStyle:
    """The class's scale and shift in place of the style's."""

    scale_RC: Tensor
    shift_RC: Tensor

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return per_sample(self.scale_RC, counts), per_sample(self.shift_RC, counts)


class AdaIN(ClassStyle):
    """h' = (1 + g_v) * h + t_v per channel, folded into the scale and shift that make h."""

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        factor_BC, extra_BC = (per_sample(x, counts) for x in (1 + self.scale_RC, self.shift_RC))
        return factor_BC * scale_BC, torch.addcmul(extra_BC, factor_BC, shift_BC)


class StyleOffset(ClassStyle):
    """What a class adds to the style's own scale and shift."""

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return scale_BC + per_sample(self.scale_RC, counts), shift_BC + per_sample(self.shift_RC, counts)


def per_sample(rows: Tensor, counts: tuple[int, ...]) -> Tensor:
    """[R, ...] -> [B, ...]: each row repeated for its samples."""
    if len(set(counts)) == 1:
        return rows.repeat_interleave(counts[0], 0)
    row_B = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return rows.index_select(0, host.sent(row_B, rows.device))
