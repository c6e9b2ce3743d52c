"""The gradients of what follows a convolution of G: K5, the norm's two sums; K6, all that is left in one pass.

Of n = (h - mean) * rstd * scale + shift, over the N pixels of a sample's channel, with g the gradient of n:
    gh = rstd * scale * (g - sum(g) / N - (h - mean) * rstd^2 * sum(g * (h - mean)) / N)
"""

from __future__ import annotations

import triton
import triton.language as tl

from hmgan.kernels.stencil import down, place, reach, share, strip
from hmgan.layers.equalized import LEAK

SLOPE = tl.constexpr(LEAK)


@triton.jit
def norm_sums_kernel(
    g_ptr, h_ptr, mean_ptr, sums_ptr, products_ptr, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A strip's sums of g and of g * (h - mean)."""
    top, column, channel, sample = strip(W, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    mean = tl.load(mean_ptr + sample * C + channel, inside_c, 0.0)
    g_ptr += sample * H * W * C + channel
    h_ptr += sample * H * W * C + channel
    sums = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    products = sums
    for r in range(ROWS):
        y = top + r
        own = inside_c & (y < H) & (column < W)
        at = (y * W + column) * C
        grad = tl.load(g_ptr + at, own, 0.0).to(tl.float32)
        sums += grad
        products += grad * (tl.load(h_ptr + at, own, 0.0).to(tl.float32) - mean)
    tile = tl.program_id(2) + tl.num_programs(2) * tl.program_id(1).to(tl.int64)
    tl.store(sums_ptr + tile * C + channel, tl.sum(sums, 0)[None, :], inside_c)
    tl.store(products_ptr + tile * C + channel, tl.sum(products, 0)[None, :], inside_c)


@triton.jit
def activate_transpose_kernel(
    g_ptr, h_ptr, noise_ptr, mean_ptr, rstd_ptr, scale_ptr, sums_ptr, products_ptr,
    out_ptr, bias_ptr, strength_ptr, gain, C, H, W,
    FIR: tl.constexpr, NOISE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradient of v, and a strip's sums for those of the bias and, under NOISE, of the strength. H, W: of h."""
    width = W + (FIR == 4)  # of v
    height = H + (FIR == 4)
    top, column, channel, sample = strip(width, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    of_sample = sample * C + channel
    mean = tl.load(mean_ptr + of_sample, inside_c, 0.0)
    rstd = tl.load(rstd_ptr + of_sample, inside_c, 0.0)
    factor = rstd * tl.load(scale_ptr + of_sample, inside_c, 0.0)
    level = tl.load(sums_ptr + of_sample, inside_c, 0.0) / (H * W)
    slant = rstd * rstd * tl.load(products_ptr + of_sample, inside_c, 0.0) / (H * W)
    g_ptr += sample * H * W * C + channel
    h_ptr += sample * H * W * C + channel
    noise_ptr += sample * H * W
    out_ptr += sample * height * width * C + channel
    h0 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    h1 = h0
    h2 = h0
    biases = h0
    strengths = h0
    for r in range(ROWS + FIR - 1):
        row = place(top + r, 0, FIR, False)
        row_own = (row >= top) & (row < top + ROWS) & (row < H)
        h3 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
        for tap in tl.static_range(FIR):
            x = place(column, tap, FIR, False)
            inside = inside_c & (row >= 0) & (row < H) & (x >= 0) & (x < W)
            at = (row * W + x) * C
            value = tl.load(h_ptr + at, inside, 0.0).to(tl.float32)
            grad = tl.load(g_ptr + at, inside, 0.0).to(tl.float32)
            grad = factor * (grad - level - (value - mean) * slant)
            grad = tl.where(inside, tl.where(value > 0, grad, grad * SLOPE), 0.0)
            if tap == FIR // 2:  # the pixel that is this program's own
                own = tl.where(row_own, grad, 0.0)
                biases += own * (reach(x, W, FIR) * reach(row, H, FIR))
                if NOISE:
                    strengths += own * tl.load(noise_ptr + row * W + x, row_own & (x < W), 0.0).to(tl.float32)
            h3 += grad * share(column, x, W, tap, FIR, False)
        y = top + r - (FIR - 1)
        total = gain * down(h0, h1, h2, h3, y, H, FIR, False)
        tl.store(out_ptr + (y * width + column) * C, total, inside_c & (y >= top) & (y < height) & (column < width))
        h0 = h1
        h1 = h2
        h2 = h3
    tile = tl.program_id(2) + tl.num_programs(2) * tl.program_id(1).to(tl.int64)
    tl.store(bias_ptr + tile * C + channel, tl.sum(biases, 0)[None, :], inside_c)
    if NOISE:
        tl.store(strength_ptr + tile * C + channel, tl.sum(strengths, 0)[None, :], inside_c)
