"""The filters between two convolutions, along one axis, as kernels see them.

    FIR       taps  output `o` of an axis of `size`
    NONE      1     x[o]
    BLUR      3     (x[o-1] + 2 x[o] + x[o+1]) / 4
    BLUR_BOX  4     (t[o-1] + t[o]) / 2, t the blurred axis, zero outside: size + 1 outputs

A filter's name is its number of taps. Two axes take it one after the other. Its transpose takes the same weights, with
inputs and outputs exchanged: they are functions of `o`, the place on the filter's output axis, and of the tap.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

NONE, BLUR, BLUR_BOX = 1, 3, 4


class Tiles(NamedTuple):
    """What one program makes: a strip of `columns` x `channels`, walked down over `rows`."""

    rows: int
    columns: int
    channels: int

    def grid(self, shape: torch.Size) -> tuple[int, int, int]:
        """Programs for results [B, C, H, W]: channels run fastest, so that neighbours read the same lines."""
        batch, channels, height, width = shape
        strips = triton.cdiv(height, self.rows) * triton.cdiv(width, self.columns)
        return triton.cdiv(channels, self.channels), strips, batch


def tiles(shape: torch.Size) -> Tiles:
    """Of results [B, C, H, W]: 16 columns of 64 channels are 72 registers a thread and loads of 128 bits."""
    _, channels, height, width = shape
    block = min(64, triton.next_power_of_2(channels))
    columns = min(1024 // block, max(16, triton.next_power_of_2(width)) if block < 64 else 16)
    return Tiles(min(16, triton.next_power_of_2(height)), columns, block)


def like(x: Tensor, height: int, width: int) -> Tensor:
    """An empty map of other sizes, channels last."""
    shape = (x.shape[0], x.shape[1], height, width)
    return torch.empty(shape, device=x.device, dtype=x.dtype, memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """A copy only where x lies otherwise."""
    return x.contiguous(memory_format=torch.channels_last)


@triton.jit
def strip(width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):
    """What of a result of so many columns is this program's: its top row, columns, channels, and the sample."""
    strips = tl.cdiv(width, COLUMNS)
    top = tl.program_id(1) // strips * ROWS
    column = tl.program_id(1) % strips * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return top, column, channel, tl.program_id(2).to(tl.int64)


@triton.jit
def weight(o, size, tap: tl.constexpr, FIR: tl.constexpr):
    """What output `o` takes of its input `o - FIR // 2 + tap`."""
    if FIR == 4:
        # At the edge the blur is cropped to the map before the box takes it.
        before = tl.where(o > 0, 0.125, 0.0)  # of t[o - 1], whose blur has taps 0, 1, 2
        here = tl.where(o < size, 0.125, 0.0)  # of t[o]: 1, 2, 3
        if tap == 0:
            w = before
        elif tap == 1:
            w = 2 * before + here
        elif tap == 2:
            w = before + 2 * here
        else:
            w = here
    else:
        w = tl.where(o < -size, 0.0, 1.0 if FIR == 1 else (0.5 if tap == 1 else 0.25))
    return w


@triton.jit
def place(step, tap: tl.constexpr, FIR: tl.constexpr, ADJOINT: tl.constexpr):
    """Where tap `tap`, counted in the order of the inputs, of output `step` lies on the input's axis."""
    return step + tap - (FIR - 1 - FIR // 2 if ADJOINT else FIR // 2)


@triton.jit
def share(step, at, size, tap: tl.constexpr, FIR: tl.constexpr, ADJOINT: tl.constexpr):
    """The weight of that tap."""
    return weight(at, size, FIR - 1 - tap, FIR) if ADJOINT else weight(step, size, tap, FIR)


@triton.jit
def across(g_ptr, row, column, inside_c, C, H, W, FIR: tl.constexpr):
    """The horizontal sums of one row of a transposed filter's input, for columns of a result [H, W]."""
    width = W + (FIR == 4)  # of the input
    height = H + (FIR == 4)
    total = tl.zeros((column.shape[0], inside_c.shape[1]), tl.float32)
    for tap in tl.static_range(FIR):
        x = place(column, tap, FIR, True)
        inside = inside_c & (row >= 0) & (row < height) & (x >= 0) & (x < width)
        value = tl.load(g_ptr + (row * width + x) * C, inside, 0.0).to(tl.float32)
        total += value * share(column, x, W, tap, FIR, True)
    return total


@triton.jit
def down(h0, h1, h2, h3, step, size, FIR: tl.constexpr, ADJOINT: tl.constexpr):
    """Output row `step` of the horizontal sums of the last four input rows, the newest last."""
    total = h3 * share(step, place(step, FIR - 1, FIR, ADJOINT), size, FIR - 1, FIR, ADJOINT)
    if FIR > 1:
        total += h2 * share(step, place(step, FIR - 2, FIR, ADJOINT), size, FIR - 2, FIR, ADJOINT)
        total += h1 * share(step, place(step, FIR - 3, FIR, ADJOINT), size, FIR - 3, FIR, ADJOINT)
    if FIR > 3:
        total += h0 * share(step, place(step, 0, FIR, ADJOINT), size, 0, FIR, ADJOINT)
    return total


@triton.jit
def reach(o, size, FIR: tl.constexpr):
    """What place `o` of a blurred axis keeps of a constant: less at the edges, beyond which there are zeros."""
    one = tl.where(o < -size, 0.0, 1.0)
    return one if FIR == 1 else one - tl.where(o == 0, 0.25, 0.0) - tl.where(o == size - 1, 0.25, 0.0)
