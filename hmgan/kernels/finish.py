"""What lies between two convolutions of G, in passes over maps channels last. B batch, C channels, T tiles.

    v -> K3 -> h and its moments -> K4 -> n        n: filter, bias, noise, leaky ReLU, instance norm under a style
    g, h -> K5 -> two sums -> K6 -> gradient of v and sums for those of bias and noise strength

G's filters are transposes of D's: BLUR_BOX here takes sums of 2x2 pixels over 4 of a map one pixel larger, and blurs.
Sums are in float32 by tile and then over tiles, every map is rounded once. There is no second derivative: R1 is D's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmgan.kernels.finish_forward import activate_kernel, merge_kernel, normalise_kernel
from hmgan.kernels.finish_gradient import activate_transpose_kernel, norm_sums_kernel
from hmgan.kernels.stencil import BLUR_BOX, channels_last, like, tiles
from hmgan.layers.passes import Styling

EPSILON = 1e-5
MERGED = 16  # tiles whose moments a program reads at once


class Filter(NamedTuple):
    """A filter of the stencil, whose transpose is taken, and what it is multiplied by."""

    fir: int
    gain: float = 1.0


class Moments(NamedTuple):
    """Of a map's channels, per sample."""

    mean_BC: Tensor
    rstd_BC: Tensor


def finished(v: Tensor, bias_BO: Tensor, filtered: Filter, styling: Styling) -> Tensor:
    """norm(leaky(filter(v + bias) + noise)) under the style: v [B, C, H, W] -> the same, or one pixel less.

    Once differentiable; the noise takes no gradient.
    """
    return _Finish.apply(channels_last(v), bias_BO.expand(len(v), -1), *styling, filtered)


def activated(
    v: Tensor, bias_BC: Tensor, strength_C: Tensor, noise_B1HW: Tensor, filtered: Filter
) -> tuple[Tensor, Moments]:
    """K3: h and its moments."""
    batch, channels, *size = v.shape
    height, width = (pixels - (filtered.fir == BLUR_BOX) for pixels in size)
    h = like(v, height, width)
    tile = tiles(h.shape)
    grid = tile.grid(h.shape)
    mean_TBC, m2_TBC = (v.new_empty(grid[1], batch, channels, dtype=torch.float32) for _ in range(2))
    activate_kernel[grid](
        v, bias_BC, strength_C, noise_B1HW.contiguous(), h, mean_TBC, m2_TBC,
        bias_BC.stride(0), filtered.gain, channels, height, width, filtered.fir, *tile,
    )  # fmt: skip
    moments = Moments(*(v.new_empty(batch, channels, dtype=torch.float32) for _ in range(2)))
    merge_kernel[grid[0], batch](
        mean_TBC, m2_TBC, *moments, EPSILON, channels, height, width, tile.rows, tile.columns, MERGED, tile.channels
    )
    return h, moments


def normalised(h: Tensor, moments: Moments, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
    """K4."""
    n = torch.empty_like(h)
    tile = tiles(h.shape)
    normalise_kernel[tile.grid(h.shape)](h, *moments, scale_BC, shift_BC, n, *h.shape[1:], *tile)
    return n


def norm_sums(grad: Tensor, h: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """K5: sums of g and of g * (h - mean) over the pixels, [B, C] each."""
    tile = tiles(h.shape)
    grid = tile.grid(h.shape)
    sums_2TBC = h.new_empty(2, grid[1], *h.shape[:2], dtype=torch.float32)
    norm_sums_kernel[grid](grad, h, moments.mean_BC, *sums_2TBC, *h.shape[1:], *tile)
    sums_BC, products_BC = sums_2TBC.sum(1)
    return sums_BC, products_BC


def transposed(
    grad: Tensor, h: Tensor, moments: Moments, scale_BC: Tensor, sums: tuple[Tensor, Tensor], noise_B1HW: Tensor,
    filtered: Filter, noisy: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """K6: the gradients of v, of the bias [B, C], and of the strength [C], which is zero where it is not `noisy`."""
    batch, channels, height, width = h.shape
    out = like(h, height + (filtered.fir == BLUR_BOX), width + (filtered.fir == BLUR_BOX))
    tile = tiles(out.shape)
    grid = tile.grid(out.shape)
    biases_TBC, strengths_TBC = (
        h.new_empty(count, batch, channels, dtype=torch.float32) for count in (grid[1], grid[1] if noisy else 0)
    )
    activate_transpose_kernel[grid](
        grad, h, noise_B1HW.contiguous(), *moments, scale_BC, *sums, out, biases_TBC, strengths_TBC,
        filtered.gain, channels, height, width, filtered.fir, noisy, *tile,
    )  # fmt: skip
    return out, biases_TBC.sum(0), strengths_TBC.sum((0, 1))


class _Finish(torch.autograd.Function):
    """Keeps h alone of the maps: its signs are those of what the leaky ReLU saw."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, bias_BC: Tensor, strength_C: Tensor, noise_B1HW: Tensor, scale_BC: Tensor,
        shift_BC: Tensor, filtered: Filter,
    ) -> Tensor:  # fmt: skip
        scale_BC = scale_BC.contiguous()
        h, moments = activated(v, bias_BC, strength_C, noise_B1HW, filtered)
        ctx.save_for_backward(h, noise_B1HW, *moments, scale_BC)
        ctx.filtered = filtered
        return normalised(h, moments, scale_BC, shift_BC.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, noise_B1HW, mean_BC, rstd_BC, scale_BC = ctx.saved_tensors
        grad, moments = channels_last(grad), Moments(mean_BC, rstd_BC)
        sums_BC, products_BC = norm_sums(grad, h, moments)
        of_v, of_bias_BC, of_strength_C = transposed(
            grad, h, moments, scale_BC, (sums_BC, products_BC), noise_B1HW, ctx.filtered, ctx.needs_input_grad[2]
        )
        return of_v, of_bias_BC, of_strength_C, None, products_BC * rstd_BC, sums_BC, None
