"""The affine head: one linear map per table, from the class vector to a row of scales, shifts or biases.

Legend: R rows (distinct classes), E class-vector width, O outputs (all entries of the table, flat).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.layers import he_gain


class AffineHead(nn.Module):
    """v [R, E] -> table [R, O], equalised: unit * (s(E) * v @ weight.T + bias), s(E) = sqrt(2 / E) (Eq. 3).

    The gain multiplies v, which is tiny, and never the weight, which holds most of the model's parameters.

    Args:
        unit: the scale of one unit of output; the site's own gain where the table stands for a weight.
        bias: what the head emits for v = 0, in effective units; zero where left out.
        spread: standard deviation of the initial weight.
    """

    def __init__(self, dim: int, outputs: int, *, unit: float = 1.0, bias: Tensor | None = None, spread: float) -> None:
        super().__init__()
        self.gain = he_gain(dim) * unit
        self.unit = unit
        self.weight = nn.Parameter(torch.randn(outputs, dim) * spread if spread else torch.zeros(outputs, dim))
        self.bias = nn.Parameter(torch.zeros(outputs) if bias is None else bias.detach().flatten() / unit)

    def forward(self, v_RE: Tensor) -> Tensor:
        return torch.addmm(self.bias * self.unit, v_RE * self.gain, self.weight.T)
