"""Kernels of every class, as convolutions take them: K7, scale * normal + shift, cast and laid out; K8, its gradient.

R rows, O/I channels out and in, k kernel size. Kernels lie channels last. Of a transposed convolution the inputs come
first, [I, O, k, k], and the taps may be flipped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmgan.layers.edits import Tables

BLOCK = 32  # outputs, and inputs, of one program


class Form(NamedTuple):
    """How a convolution takes its kernels."""

    dtype: torch.dtype
    transposed: bool = False
    flipped: bool = False

    def strides(self, kernel: Tensor) -> tuple[int, int, int]:
        """From one output, input and tap to the next."""
        first, second, _, tap = kernel.stride()
        return (second, first, tap) if self.transposed else (first, second, tap)


def edited(tables: Tables, form: Form) -> tuple[Tensor, ...]:
    """The kernels of each row, [O, I, k, k], or [I, O, k, k] where they are transposed; once differentiable."""
    return _Edited.apply(tables.normal_OIkk.contiguous(), tables.scale_ROI, tables.shift_ROI, form)


def made(normal_OIkk: Tensor, scale_ROI: Tensor, shift_ROI: Tensor, form: Form) -> tuple[Tensor, ...]:
    """K7."""
    rows, outputs, inputs = scale_ROI.shape
    first, last = (inputs, outputs) if form.transposed else (outputs, inputs)
    taps = normal_OIkk.shape[2:]
    kernels = scale_ROI.new_empty(rows, first, *taps, last, dtype=form.dtype).permute(0, 1, 4, 2, 3)
    edited_kernel[_grid(normal_OIkk, rows)](
        normal_OIkk, scale_ROI.contiguous(), shift_ROI.contiguous(), kernels,
        kernels.stride(0), *form.strides(kernels[0]), outputs, inputs, taps.numel(), form.flipped, BLOCK,
    )  # fmt: skip
    return kernels.unbind()


def gathered(grads_R: tuple[Tensor, ...], normal_OIkk: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """K8: the gradients of scale and shift, [R, O, I] each, from those of the kernels, however they lie in memory.

    A launch per row: to put the rows' gradients together would take a copy of each.
    """
    outputs, inputs, height, width = normal_OIkk.shape
    of_scale_ROI, of_shift_ROI = (normal_OIkk.new_empty(len(grads_R), outputs, inputs) for _ in range(2))
    for grad, of_scale_OI, of_shift_OI in zip(grads_R, of_scale_ROI, of_shift_ROI, strict=True):
        regular = grad if grad.stride(2) == width * grad.stride(3) else grad.contiguous()
        edited_transpose_kernel[_grid(normal_OIkk, 1)](
            regular, normal_OIkk, of_scale_OI, of_shift_OI,
            *form.strides(regular), outputs, inputs, height * width, form.flipped, BLOCK,
        )  # fmt: skip
    return of_scale_ROI, of_shift_ROI


def _grid(normal_OIkk: Tensor, rows: int) -> tuple[int, int, int]:
    outputs, inputs = normal_OIkk.shape[:2]
    return triton.cdiv(inputs, BLOCK), triton.cdiv(outputs, BLOCK), rows


class _Edited(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, normal_OIkk: Tensor, scale_ROI: Tensor, shift_ROI: Tensor, form: Form) -> tuple[Tensor, ...]:
        ctx.form = form
        # The scale is needed where the source trains, and its kernels are normalised at every use.
        ctx.save_for_backward(normal_OIkk, *([scale_ROI] if ctx.needs_input_grad[0] else []))
        return made(normal_OIkk, scale_ROI, shift_ROI, form)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads_R: Tensor) -> tuple[Tensor | None, ...]:
        normal_OIkk, *scale = ctx.saved_tensors
        of_normal_OIkk = None
        if scale:
            of_normal_OIkk = torch.zeros_like(normal_OIkk)
            for grad, scale_OI in zip(grads_R, scale[0], strict=True):
                turned = grad.transpose(0, 1) if ctx.form.transposed else grad
                of_normal_OIkk += scale_OI[..., None, None] * (turned.flip(2, 3) if ctx.form.flipped else turned)
        return of_normal_OIkk, *gathered(grads_R, normal_OIkk, ctx.form), None


@triton.jit
def block(outputs, inputs, BLOCK: tl.constexpr):
    """The kernels of this program, by output and input, and which of them exist."""
    output = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    input = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    return output, input, (output < outputs) & (input < inputs)


@triton.jit
def edited_kernel(
    normal_ptr, scale_ptr, shift_ptr, kernel_ptr, row_stride, output_stride, input_stride, tap_stride,
    outputs, inputs, TAPS: tl.constexpr, FLIPPED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Kernels of the normalised one, for one row."""
    output, input, inside = block(outputs, inputs, BLOCK)
    row = tl.program_id(2).to(tl.int64)
    table = (row * outputs + output) * inputs + input
    scale = tl.load(scale_ptr + table, inside, 0.0)
    shift = tl.load(shift_ptr + table, inside, 0.0)
    normal_ptr += (output * inputs + input) * TAPS
    kernel_ptr += row * row_stride + output * output_stride + input * input_stride
    for tap in tl.static_range(TAPS):
        normal = tl.load(normal_ptr + tap, inside, 0.0)
        tl.store(kernel_ptr + (TAPS - 1 - tap if FLIPPED else tap) * tap_stride, scale * normal + shift, inside)


@triton.jit
def edited_transpose_kernel(
    g_ptr, normal_ptr, scale_ptr, shift_ptr, output_stride, input_stride, tap_stride,
    outputs, inputs, TAPS: tl.constexpr, FLIPPED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over the taps of g * normal and of g, of one row."""
    output, input, inside = block(outputs, inputs, BLOCK)
    normal_ptr += (output * inputs + input) * TAPS
    g_ptr += output * output_stride + input * input_stride
    of_scale = tl.zeros((BLOCK, BLOCK), tl.float32)
    of_shift = of_scale
    for tap in tl.static_range(TAPS):
        grad = tl.load(g_ptr + (TAPS - 1 - tap if FLIPPED else tap) * tap_stride, inside, 0.0).to(tl.float32)
        of_scale += grad * tl.load(normal_ptr + tap, inside, 0.0)
        of_shift += grad
    table = output * inputs + input
    tl.store(scale_ptr + table, of_scale, inside)
    tl.store(shift_ptr + table, of_shift, inside)
