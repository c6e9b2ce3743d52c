"""Affine warps of images without aliasing: up by a wavelet, bilinear, down by the same wavelet.

Legend: B batch, C channels, H = W pixels, M upsampled positions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The orthonormal low-pass filter of the symlet with six vanishing moments; its middle is the tap of index 5.
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
MIDDLE = 5
BILINEAR, REFLECTION = 0, 2  # the operator's numbers for its modes


def warped(x_BCHH: Tensor, source_B33: Tensor) -> Tensor:
    """Warps the images: what is at q, in pixels from the centre, was at `source` q. The border is reflected."""
    size = x_BCHH.shape[-1]
    up, down = filters(size, x_BCHH.device, x_BCHH.dtype)
    # Where the down filter looks, every half pixel; -1 and 1 are the outermost pixels.
    half = (size - 1) / 2
    at_M = torch.arange(-MIDDLE, down.shape[1] - MIDDLE, device=up.device, dtype=up.dtype) / 2 / half - 1
    source_B33 = source_B33.to(up.dtype)
    across = source_B33[:, None, None, :2, 0] * at_M[:, None]
    along = (source_B33[:, None, :2, 1] * at_M[:, None])[:, :, None]
    grid_BMM2 = across + along + source_B33[:, None, None, :2, 2] / half
    return down @ _Bilinear.apply(up @ x_BCHH @ up.T, grid_BMM2) @ down.T


@cache
def filters(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The two filters along one axis, as matrices: H pixels -> 2 H - 1 positions, and 2 H + 10 positions -> H pixels.

    Pixel i is at position 2 i; the border is reflected. Without a warp between them, one undoes the other.
    """
    up = torch.zeros(2 * size - 1, size, dtype=torch.float64)
    down = torch.zeros(size, 2 * size + len(SYM6) - 2, dtype=torch.float64)
    period = 2 * size - 2
    for tap, value in enumerate(SYM6):
        for position in range(2 * size - 1):
            pixel, odd = divmod(position + MIDDLE - tap, 2)
            if not odd:
                up[position, min(pixel % period, -pixel % period)] += math.sqrt(2) * value
        for pixel in range(size):
            down[pixel, 2 * pixel + tap] = value / math.sqrt(2)
    return up.to(device, dtype), down.to(device, dtype)


class _Bilinear(torch.autograd.Function):
    """Bilinear sampling, differentiable to any order: it is linear in the image, so its gradient is its transpose.

    PyTorch's own can be differentiated only once, and R1 differentiates twice.
    """

    @staticmethod
    def forward(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _BilinearTransposed.apply(grad, *ctx.saved_tensors, ctx.shape), None


class _BilinearTransposed(torch.autograd.Function):
    @staticmethod
    def forward(grad: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        image = grad.new_empty(shape)
        backward = torch.ops.aten.grid_sampler_2d_backward
        return backward(grad.contiguous(), image, grid, BILINEAR, REFLECTION, True, (True, False))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.Size], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Bilinear.apply(grad, *ctx.saved_tensors), None, None
