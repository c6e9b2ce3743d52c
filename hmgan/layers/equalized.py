"""Equalised layers of the StyleGAN family. B batch, C channels, O/I out and in, H/W pixels, D features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.float32 import unrounded, widened

LEAK = 0.2


def he_gain(fan_in: int) -> float:
    """s(k) = sqrt(2 / k), which multiplies unit-normal weights at run time (Karras et al. 2018, section 4.1)."""
    return math.sqrt(2.0 / fan_in)


class _LeakyReLU(torch.autograd.Function):
    """Keeps its result for the backward, as the next layer does anyway, and not its input as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.leaky_relu(x, LEAK)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(grad, result, LEAK, True)


def leaky_relu(x: Tensor) -> Tensor:
    """x, or x / 5 below zero. Keeps its result for the backward."""
    return _LeakyReLU.apply(x)


class _LeakyReLUBySign(torch.autograd.Function):
    """Keeps a byte per value for its backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.leaky_relu(x, LEAK), (x > 0).view(torch.uint8)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # or zeros would be made for the sign's
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> Tensor | None:
        if grad is None:
            return None
        (positive,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(grad, positive, LEAK, True)


def leaky_relu_by_sign(x: Tensor) -> Tensor:
    """`leaky_relu` where the next layer does not keep its input: a quarter of the memory, and a little slower."""
    return _LeakyReLUBySign.apply(x)[0]


class EqualLinear(nn.Module):
    """Linear layer with unit-normal weights and an equalised learning rate. x [B, I] -> [B, O]."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.gain = he_gain(inputs)

    def forward(self, x: Tensor) -> Tensor:
        # Scales the activations: the weight is often the far larger tensor.
        with unrounded(x):  # mapping, styles, class network, logits: small, and all else depends on them
            return F.linear(widened(x) * self.gain, self.weight, self.bias)


def unit_mean_square(x: Tensor) -> Tensor:
    """X / sqrt(mean x^2 + 1e-8) over the features. [B, D]."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class PixelNorm(nn.Module):
    """Unit mean square over the features. x [B, D]."""

    def forward(self, x: Tensor) -> Tensor:
        return unit_mean_square(x)


class _Blur(torch.autograd.Function):
    """A blur by a symmetric kernel is its own transpose, so that its gradient is the same blur, to any order.

    Otherwise R1's second derivative would run one convolution per channel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Blur.apply(grad, *ctx.saved_tensors), None


class Blur(nn.Module):
    """Depthwise [1, 2, 1] x [1, 2, 1] / 16 with zero padding. x [B, C, H, W]."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (torch.outer(taps, taps) / 16)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return _Blur.apply(x, self.kernel.to(x.dtype))  # exact in bfloat16 too


class _Box(torch.autograd.Function):
    """Sums of 2x2 pixels over a divisor, one pixel apart.

    With a border of zeros it is the transpose of itself without, so that either's gradient is the other, to any order.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, border: int, divisor: int) -> Tensor:
        if x.device.type == "cpu":  # where pooling takes twice as long
            channels = x.shape[1]
            kernel = x.new_full((1, 1, 2, 2), 1 / divisor).expand(channels, 1, 2, 2)
            return F.conv2d(x, kernel, padding=border, groups=channels)
        return F.avg_pool2d(x, 2, 1, border, divisor_override=divisor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        _, ctx.border, ctx.divisor = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Box.apply(grad, 1 - ctx.border, ctx.divisor), None, None


def boxed(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H+1, W+1]: means of 2x2 pixels, zeros beyond the edge among them.

    Averaging 2x2 pixels after a 3x3 convolution is the 3x3 at stride 2 of this: 9 products an output, not 16.
    """
    return _Box.apply(x, 1, 4)


def unboxed(x: Tensor, divisor: int) -> Tensor:
    """[B, C, H+1, W+1] -> [B, C, H, W]: sums of 2x2 pixels over `divisor`.

    Of a 3x3's transposed convolution at stride 2: doubling every pixel (divisor 1) and then convolving.
    """
    return _Box.apply(x, 0, divisor)


_shared: dict[tuple[nn.Module, bool], Tensor] | None = None  # effective kernels, while passes share them


@contextmanager
def shared_kernels() -> Iterator[None]:
    """Each equalised convolution makes its effective kernel once, for all passes that share a backward.

    Four passes of D with kernels of their own hold 0.4 GiB more at 512 channels. Weights must not change inside.
    """
    global _shared
    before, _shared = _shared, {}
    try:
        yield
    finally:
        _shared = before


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate; `down` averages 2x2 pixels of the result."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = he_gain(inputs * kernel * kernel)
        self.padding, self.down = padding, down

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return F.conv2d(boxed(x), self.kernel(), self.bias, stride=2, padding=self.padding - 1)
        return F.conv2d(x, self.kernel(), self.bias, padding=self.padding)

    def kernel(self) -> Tensor:
        """[O, I, k, k], as it acts; one for all passes within `shared_kernels`."""
        # A kernel made without a graph has no gradient for a pass that needs one.
        key: tuple[nn.Module, bool] = (self, torch.is_grad_enabled())
        kernels = {} if _shared is None else _shared
        if key not in kernels:
            kernels[key] = self._effective_weight()
        return kernels[key]

    def _effective_weight(self) -> Tensor:
        return self.weight * self.gain


def instance_norm(x: Tensor, scale_BC: Tensor, shift_BC: Tensor, epsilon: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * scale + shift, statistics per sample and channel, variance biased."""
    if torch.compiler.is_exporting():  # the batch norm below would fix the batch's size
        var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + epsilon) * scale_BC[:, :, None, None] + shift_BC[:, :, None, None]
    # As a batch norm whose channels are all samples' channels: one fused kernel, three times faster on CPU.
    flat = x.flatten(0, 1)[None]
    return F.batch_norm(flat, None, None, scale_BC.flatten(), shift_BC.flatten(), True, 0.0, epsilon).view_as(x)
