"""fir(leaky(a + bias)) in one pass over a map, and its transpose: what lies between two convolutions of D.

Given the signs, it is linear in map and bias, and so is the transpose in its gradient: each is the other's derivative,
to any order, so that R1 runs through the same two kernels. Maps lie channels last; sums are in float32 and rounded
once; a bias's gradient is summed by tile and then over tiles, without atomics, and so is the same in every run.

Shapes: a [B, C, H, W], bias [C], s [B, C, H', W'], one pixel larger than a under BLUR_BOX. Signs: a byte per value.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hmgan.kernels.stencil import BLUR_BOX, across, channels_last, down, like, place, share, strip, tiles
from hmgan.layers.equalized import LEAK

SLOPE = tl.constexpr(LEAK)


def leaky_fir(a: Tensor, bias_C: Tensor, fir: int) -> Tensor:
    """Adds the bias, takes the leaky ReLU and filters; double differentiable."""
    return _Leaky.apply(a, bias_C, fir)[0]


class _Leaky(torch.autograd.Function):
    """Finds the signs."""

    @staticmethod
    def forward(a: Tensor, bias_C: Tensor, fir: int) -> tuple[Tensor, Tensor]:
        sign = torch.empty_like(a, dtype=torch.uint8, memory_format=torch.channels_last)
        return _forward(a, bias_C, sign, fir, given=False), sign

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # or zeros would be made for the signs'
        ctx.save_for_backward(output[1])
        ctx.fir = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad is None:
            return None, None, None
        return *_Transpose.apply(grad, *ctx.saved_tensors, ctx.fir, ctx.needs_input_grad[1]), None


class _Linear(torch.autograd.Function):
    """The same under signs that are known: the derivative of the transpose."""

    @staticmethod
    def forward(a: Tensor, bias_C: Tensor, sign: Tensor, fir: int) -> Tensor:
        return _forward(a, bias_C, sign, fir, given=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])
        ctx.fir = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *_Transpose.apply(grad, *ctx.saved_tensors, ctx.fir, ctx.needs_input_grad[1]), None, None


class _Transpose(torch.autograd.Function):
    """The gradients of map and bias; the latter's is zero where it is not `summed`, because nobody asks for it."""

    @staticmethod
    def forward(grad: Tensor, sign: Tensor, fir: int, summed: bool) -> tuple[Tensor, Tensor]:
        return _transpose(grad, sign, fir, summed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, bool], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.fir = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad_a: Tensor, grad_bias_C: Tensor) -> tuple[Tensor, None, None, None]:
        return _Linear.apply(grad_a, grad_bias_C, *ctx.saved_tensors, ctx.fir), None, None, None


def _forward(a: Tensor, bias_C: Tensor, sign: Tensor, fir: int, given: bool) -> Tensor:
    height, width = a.shape[2:]
    out = like(a, height + (fir == BLUR_BOX), width + (fir == BLUR_BOX))
    tile = tiles(out.shape)
    leaky_fir_kernel[tile.grid(out.shape)](
        channels_last(a), bias_C, sign, out, a.shape[1], height, width, fir, given, *tile
    )
    return out


def _transpose(grad: Tensor, sign: Tensor, fir: int, summed: bool) -> tuple[Tensor, Tensor]:
    height, width = sign.shape[2:]
    out = like(grad, height, width)
    tile = tiles(out.shape)
    grid = tile.grid(out.shape)
    sums_TC = grad.new_empty(grid[1] * grid[2] if summed else 0, grad.shape[1], dtype=torch.float32)
    leaky_fir_transpose_kernel[grid](
        channels_last(grad), sign, out, sums_TC, grad.shape[1], height, width, fir, summed, *tile
    )
    return out, sums_TC.sum(0)


@triton.jit
def leaky_fir_kernel(
    a_ptr, bias_ptr, sign_ptr, out_ptr, C, H, W,
    FIR: tl.constexpr, GIVEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Walks down a strip, with the horizontal sums of the last rows in registers."""
    width = W + (FIR == 4)  # of the result
    height = H + (FIR == 4)
    top, column, channel, sample = strip(width, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    bias = tl.load(bias_ptr + channel, inside_c, 0.0).to(tl.float32)
    a_ptr += sample * H * W * C + channel
    sign_ptr += sample * H * W * C + channel
    out_ptr += sample * height * width * C + channel
    h0 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    h1 = h0
    h2 = h0
    for r in range(ROWS + FIR - 1):
        row = place(top + r, 0, FIR, False)
        h3 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
        for tap in tl.static_range(FIR):
            x = place(column, tap, FIR, False)
            inside = inside_c & (row >= 0) & (row < H) & (x >= 0) & (x < W)
            at = (row * W + x) * C
            value = tl.load(a_ptr + at, inside, 0.0).to(tl.float32) + bias
            if GIVEN:
                positive = tl.load(sign_ptr + at, inside, 0) != 0
            else:
                positive = value > 0
                if tap == FIR // 2:  # the pixel that is this program's own
                    own = inside & (row >= top) & (row < top + ROWS)
                    tl.store(sign_ptr + at, positive.to(tl.uint8), own)
            value = tl.where(inside, tl.where(positive, value, value * SLOPE), 0.0)
            h3 += value * share(column, x, W, tap, FIR, False)
        y = top + r - (FIR - 1)
        total = down(h0, h1, h2, h3, y, H, FIR, False)
        tl.store(out_ptr + (y * width + column) * C, total, inside_c & (y >= top) & (y < height) & (column < width))
        h0 = h1
        h1 = h2
        h2 = h3


@triton.jit
def leaky_fir_transpose_kernel(
    g_ptr, sign_ptr, out_ptr, sums_ptr, C, H, W,
    FIR: tl.constexpr, SUMMED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The same walk over the gradient; the slope comes last, and each strip sums what it has made."""
    top, column, channel, sample = strip(W, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    g_ptr += sample * (H + (FIR == 4)) * (W + (FIR == 4)) * C + channel
    sign_ptr += sample * H * W * C + channel
    out_ptr += sample * H * W * C + channel
    h0 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    h1 = h0
    h2 = h0
    summed = h0
    for r in range(ROWS + FIR - 1):
        h3 = across(g_ptr, place(top + r, 0, FIR, True), column, inside_c, C, H, W, FIR)
        y = top + r - (FIR - 1)
        own = inside_c & (y >= top) & (y < H) & (column < W)
        at = (y * W + column) * C
        positive = tl.load(sign_ptr + at, own, 0) != 0
        total = down(h0, h1, h2, h3, y, H, FIR, True)
        total = tl.where(own, tl.where(positive, total, total * SLOPE), 0.0)
        tl.store(out_ptr + at, total, own)
        if SUMMED:
            summed += total
        h0 = h1
        h1 = h2
        h2 = h3
    if SUMMED:
        tile = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
        tl.store(sums_ptr + tile * C + channel, tl.sum(summed, 0)[None, :], inside_c)
