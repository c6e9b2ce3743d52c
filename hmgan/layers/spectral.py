"""Spectrally normalised layers (Miyato et al. 2018). B batch, O/I channels or features out and in, H/W pixels.

The power iteration for sigma starts afresh at every use: the usual vector that is kept between uses changes with every
pass, and a moving average would spoil it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.layers.float32 import unrounded, widened

ROUNDS = 8


def spectral_norm(weight: Tensor, rounds: int = ROUNDS) -> Tensor:
    """The largest singular value of weight [O, ...] as a matrix, from below. Its gradient is that of u^T W v."""
    matrix = weight.flatten(1)
    with torch.no_grad():
        # Any fixed start but one that symmetry could make orthogonal to the answer, such as a vector of ones.
        u = torch.linspace(0.5, 1.5, len(matrix), device=weight.device, dtype=weight.dtype)
        u = u * torch.where(torch.arange(len(u), device=weight.device) % 2 == 0, 1.0, -0.7).to(u)
        for _ in range(rounds):
            v = F.normalize(matrix.mT @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
    return torch.dot(u, matrix @ v)


def normalised(weight: Tensor, epsilon: float = 1e-6) -> Tensor:
    """W / sigma(W)."""
    with unrounded(weight):
        return weight / (spectral_norm(weight) + epsilon)


class SpectralLinear(nn.Linear):
    """Linear layer with W / sigma(W), orthogonal at first. x [B, I] -> [B, O]."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, normalised(self.weight), self.bias)


class SpectralConv2d(nn.Conv2d):
    """Convolution with W / sigma(W), orthogonal at first, its size kept. x [B, I, H, W] -> [B, O, H, W]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, normalised(self.weight), self.bias, padding=self.padding)


class Attention(nn.Module):
    """Self-attention over pixels (Zhang et al. 2019), keys and values at half the resolution; nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = SpectralConv2d(channels, inner, 1, bias=False)
        self.key = SpectralConv2d(channels, inner, 1, bias=False)
        self.value = SpectralConv2d(channels, max(channels // 2, 1), 1, bias=False)
        self.out = SpectralConv2d(max(channels // 2, 1), channels, 1, bias=False)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query_BIP = self.query(x).flatten(2)  # P pixels, Q of a quarter as many
        key_BIQ, value_BIQ = (F.max_pool2d(f(x), 2).flatten(2) for f in (self.key, self.value))
        share_BPQ = widened(query_BIP.mT @ key_BIQ).softmax(2)
        mixed = (value_BIQ @ share_BPQ.mT).unflatten(2, x.shape[2:])
        return x + self.weight * self.out(mixed)


def attention_at(wanted: int, pixels: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """One layer per map: self-attention where a map has `wanted` pixels, nothing elsewhere or where it is 0.

    Raises: UserError if there is no such map.
    """
    if wanted and wanted not in pixels:
        raise UserError(f"attention must be 0 or one of {', '.join(map(str, sorted(pixels)))} pixels, got {wanted}")
    maps = zip(pixels, widths, strict=True)
    return nn.ModuleList(Attention(width) if size == wanted else nn.Identity() for size, width in maps)
