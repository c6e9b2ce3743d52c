"""What follows a convolution of G: K3, a filter, bias, noise and leaky ReLU with the result's moments; K4, the norm.

A program makes the mean and the sum of squared distances from it (M2) of its own strip; those of all strips are merged,
two at a time, as Chan et al. 1983 do. Squares of values are never summed: of a mean of 30 and a deviation of 1 they
would leave little.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hmgan.kernels.stencil import across, down, place, reach, strip
from hmgan.layers.equalized import LEAK

SLOPE = tl.constexpr(LEAK)


@triton.jit
def activate_kernel(
    v_ptr, bias_ptr, strength_ptr, noise_ptr, h_ptr, mean_ptr, m2_ptr, bias_stride, gain, C, H, W,
    FIR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The map h = leaky(gain * fir^T(v) + blurred bias + strength * noise). H, W: of h."""
    top, column, channel, sample = strip(W, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    inside_w = column < W
    bias = tl.load(bias_ptr + sample * bias_stride + channel, inside_c, 0.0) * reach(column, W, FIR)
    strength = tl.load(strength_ptr + channel, inside_c, 0.0)
    v_ptr += sample * (H + (FIR == 4)) * (W + (FIR == 4)) * C + channel
    noise_ptr += sample * H * W
    h_ptr += sample * H * W * C + channel
    h0 = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    h1 = h0
    h2 = h0
    mean = h0  # of a column's rows, Welford 1962
    m2 = h0
    for r in range(ROWS + FIR - 1):
        h3 = across(v_ptr, place(top + r, 0, FIR, True), column, inside_c, C, H, W, FIR)
        y = top + r - (FIR - 1)
        row_inside = (y >= top) & (y < H)
        own = inside_c & inside_w & row_inside
        noise = tl.load(noise_ptr + y * W + column, inside_w & row_inside, 0.0).to(tl.float32)
        total = gain * down(h0, h1, h2, h3, y, H, FIR, True) + bias * reach(y, H, FIR) + strength * noise
        result = tl.where(total > 0, total, total * SLOPE).to(h_ptr.dtype.element_ty)
        tl.store(h_ptr + (y * W + column) * C, result, own)
        # Moments are those of what was stored, which is what is normalised.
        off = tl.where(own, result.to(tl.float32) - mean, 0.0)
        mean += off / tl.maximum(y - top + 1, 1)
        m2 += off * tl.where(own, result.to(tl.float32) - mean, 0.0)
        h0 = h1
        h1 = h2
        h2 = h3
    rows = tl.minimum(H - top, ROWS)
    columns = tl.minimum(W - tl.program_id(1) % tl.cdiv(W, COLUMNS) * COLUMNS, COLUMNS)
    tile_mean = tl.sum(mean, 0)[None, :] / columns
    off = tl.where(inside_w, mean - tile_mean, 0.0)
    tile_m2 = tl.sum(m2 + rows * off * off, 0)[None, :]
    tile = tl.program_id(2) + tl.num_programs(2) * tl.program_id(1).to(tl.int64)
    tl.store(mean_ptr + tile * C + channel, tile_mean, inside_c)
    tl.store(m2_ptr + tile * C + channel, tile_m2, inside_c)


@triton.jit
def merge_kernel(
    mean_ptr, m2_ptr, out_mean_ptr, out_rstd_ptr, epsilon, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TILES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / deviation of a sample's channels, from the moments of its strips."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    inside_c = channel < C
    sample = tl.program_id(1)
    strips = tl.cdiv(W, COLUMNS)
    tiles = tl.cdiv(H, ROWS) * strips
    count = tl.zeros((TILES, CHANNELS), tl.float32)  # pixels that a lane has merged, their mean and M2
    mean = count
    m2 = count
    first = sample * 0
    while first < tiles:
        tile = first + tl.arange(0, TILES)[:, None]
        inside = inside_c & (tile < tiles)
        pixels = tl.minimum(H - tile // strips * ROWS, ROWS) * tl.minimum(W - tile % strips * COLUMNS, COLUMNS)
        pixels = tl.where(inside, pixels, 0).to(tl.float32)
        at = (tile * tl.num_programs(1) + sample).to(tl.int64) * C + channel
        part = pixels / tl.maximum(count + pixels, 1.0)
        off = tl.load(mean_ptr + at, inside, 0.0) - mean
        mean += off * part
        m2 += tl.load(m2_ptr + at, inside, 0.0) + off * off * count * part
        count += pixels
        first += TILES
    whole = tl.sum(count * mean, 0)[None, :] / (H * W)
    off = mean - whole
    var = tl.sum(m2 + count * off * off, 0)[None, :] / (H * W)
    tl.store(out_mean_ptr + sample * C + channel, whole, inside_c)
    tl.store(out_rstd_ptr + sample * C + channel, 1.0 / tl.sqrt(var + epsilon), inside_c)


@triton.jit
def normalise_kernel(
    h_ptr, mean_ptr, rstd_ptr, scale_ptr, shift_ptr, out_ptr, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """(h - mean) * rstd * scale + shift."""
    top, column, channel, sample = strip(W, ROWS, COLUMNS, CHANNELS)
    inside_c = channel < C
    of_sample = sample * C + channel
    mean = tl.load(mean_ptr + of_sample, inside_c, 0.0)
    factor = tl.load(rstd_ptr + of_sample, inside_c, 0.0) * tl.load(scale_ptr + of_sample, inside_c, 0.0)
    shift = tl.load(shift_ptr + of_sample, inside_c, 0.0)
    h_ptr += sample * H * W * C + channel
    out_ptr += sample * H * W * C + channel
    for r in range(ROWS):
        y = top + r
        own = inside_c & (y < H) & (column < W)
        at = (y * W + column) * C
        value = tl.load(h_ptr + at, own, 0.0).to(tl.float32)
        tl.store(out_ptr + at, (value - mean) * factor + shift, own)
