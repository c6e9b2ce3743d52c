"""What a modulation hands to the source: one edit per site, one row per distinct class in the batch.

Legend: R rows (distinct classes), B batch, O/I channels out and in, k kernel size, H/W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class WeightEdit(Protocol):
    """Replaces a convolution's weight and bias, a row per class."""

    def weights(self, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        """The site's own bias -> weights [R, O, I, k, k] and biases [R, O]."""


class ActivationEdit(Protocol):
    """Changes what leaves a normalisation, a row per class."""

    def activation(self, h_BCHW: Tensor, counts: tuple[int, ...]) -> Tensor: ...


@dataclass(frozen=True)
class Edits:
    """R rows of edits; for a batch sorted by row, `counts[r]` consecutive samples belong to row r.

    The empty instance is the source itself.
    """

    weights: Mapping[str, WeightEdit] = field(default_factory=dict)
    activations: Mapping[str, ActivationEdit] = field(default_factory=dict)
    rows: int = 0
    counts: tuple[int, ...] = ()


SOURCE = Edits()


@dataclass(frozen=True)
class AdaFM:
    """W_v = gamma_v * (W - mu) / sigma + beta_v and b_v_hat = b + b_v (Eqs. 4 and 5)."""

    normal_OIkk: Tensor
    scale_ROI: Tensor
    shift_ROI: Tensor
    bias_RO: Tensor

    def weights(self, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.addcmul(self.shift_ROI[..., None, None], self.scale_ROI[..., None, None], self.normal_OIkk)
        return weight, bias_O + self.bias_RO


@dataclass(frozen=True)
class AdaIN:
    """h' = (1 + g_v) * h + t_v per channel."""

    scale_RC: Tensor
    shift_RC: Tensor

    def activation(self, h_BCHW: Tensor, counts: tuple[int, ...]) -> Tensor:
        scale_BC, shift_BC = (per_sample(x, counts) for x in (1 + self.scale_RC, self.shift_RC))
        return torch.addcmul(shift_BC[..., None, None], h_BCHW, scale_BC[..., None, None])


def per_sample(rows: Tensor, counts: tuple[int, ...]) -> Tensor:
    """[R, ...] -> [B, ...]: each row repeated for its samples."""
    if len(set(counts)) == 1:
        return rows.repeat_interleave(counts[0], 0)
    return rows.repeat_interleave(torch.tensor(counts, device=rows.device), 0, output_size=sum(counts))
