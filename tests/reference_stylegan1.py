"""StyleGAN1 as the public PyTorch port describes it, written naively from its tensors' names: an oracle for our own.

Also makes random state dicts with the port's names and shapes. Legend: block i works at 4 * 2^i pixels; the port counts
the discriminator's layers from the largest picture downwards. Widths are listed 4 px first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
FUSED_FROM = 5  # the block at 128 px
BLUR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16


def noise_maps(batch: int, blocks: int, seed: int = 1) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, 1, 4 << i, 4 << i, generator=g, dtype=torch.float64) for i in range(blocks))


def port_generator(widths: Sequence[int], z_dim: int = 8, layers: int = 2, fused: bool = True, seed: int = 0) -> State:
    """A random generator state, by the port's names. Every number is random, the ones that start constant too."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, out in enumerate(widths):
        block, inputs = f"generator.progression.{i}", widths[max(i - 1, 0)]
        if i == 0:
            shapes[f"{block}.conv1.input"] = (1, out, 4, 4)
        elif fused and i >= FUSED_FROM:
            shapes |= {f"{block}.conv1.0.weight": (inputs, out, 3, 3), f"{block}.conv1.0.bias": (out,)}
            shapes |= {f"{block}.conv1.1.weight": (out, 1, 3, 3), f"{block}.conv1.1.weight_flip": (out, 1, 3, 3)}
        else:
            shapes |= layer(f"{block}.conv1.1.conv", out, inputs, 3, 3)
            shapes |= {f"{block}.conv1.2.weight": (out, 1, 3, 3), f"{block}.conv1.2.weight_flip": (out, 1, 3, 3)}
        shapes |= layer(f"{block}.conv2.conv", out, out, 3, 3)
        for n in (1, 2):
            shapes[f"{block}.noise{n}.weight_orig"] = (1, out, 1, 1)
            shapes |= layer(f"{block}.adain{n}.style.linear", 2 * out, z_dim)
        shapes |= layer(f"generator.to_rgb.{i}.conv", 3, out, 1, 1)
    for i in range(layers):
        shapes |= layer(f"style.{2 * i + 1}.linear", z_dim, z_dim)
    return draw(shapes, seed)


def port_discriminator(widths: Sequence[int], activation: bool = True, fused: bool = True, seed: int = 0) -> State:
    """A random discriminator state, by the port's names."""
    shapes: dict[str, tuple[int, ...]] = {}
    last = len(widths) - 1
    for i, width in enumerate(widths):
        index = last - i
        shapes |= layer(f"from_rgb.{index}.0.conv" if activation else f"from_rgb.{index}.conv", width, 3, 1, 1)
        block = f"progression.{index}"
        if i == 0:
            shapes |= layer(f"{block}.conv1.0.conv", width, width + 1, 3, 3)
            shapes |= layer(f"{block}.conv2.0.conv", width, width, 4, 4)
            continue
        out = widths[i - 1]
        shapes |= layer(f"{block}.conv1.0.conv", out, width, 3, 3)
        shapes |= {f"{block}.conv2.0.weight": (out, 1, 3, 3), f"{block}.conv2.0.weight_flip": (out, 1, 3, 3)}
        if fused and i >= FUSED_FROM:
            shapes |= {f"{block}.conv2.1.weight": (out, out, 3, 3), f"{block}.conv2.1.bias": (out,)}
        else:
            shapes |= layer(f"{block}.conv2.1.conv", out, out, 3, 3)
    return draw(shapes | layer("linear.linear", 1, widths[0]), seed)


def port_checkpoint(widths: Sequence[int], activation: bool = True) -> dict[str, dict[str, object]]:
    """What the port's training saves: three networks that differ, and an optimiser."""
    return {
        "generator": dict(port_generator(widths, seed=1)),
        "g_running": dict(port_generator(widths, seed=2)),
        "discriminator": dict(port_discriminator(widths, activation, seed=3)),
        "g_optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
    }


def layer(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.bias": (shape[0],), f"{name}.weight_orig": shape}


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    g = torch.Generator().manual_seed(seed)
    flipped = {name for name in shapes if name.endswith("_flip")}
    blur = flipped | {name.removesuffix("_flip") for name in flipped}
    return {
        name: BLUR.expand(shape).clone() if name in blur else torch.randn(shape, generator=g)
        for name, shape in shapes.items()
    }


def scaled(state: State, name: str) -> Tensor:
    """The equalised weight: times sqrt(2 / fan-in), the fan-in being everything behind the first axis."""
    weight = state[f"{name}.weight_orig"].double()
    return weight * sqrt(2 / weight[0].numel())


def bias(state: State, name: str) -> Tensor:
    return state[f"{name}.bias"].double()


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ scaled(state, name).T + bias(state, name)


def convolve(state: State, name: str, x: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, scaled(state, name), bias(state, name), padding=padding)


def blurred(x: Tensor) -> Tensor:
    padded, total = F.pad(x, (1, 1, 1, 1)), torch.zeros_like(x)
    for dy in range(3):
        for dx in range(3):
            total += BLUR[dy, dx] * padded[..., dy : dy + x.shape[2], dx : dx + x.shape[3]]
    return total


def fused_kernel(weight: Tensor, inputs: int) -> Tensor:
    """The 3x3 kernels at four offsets in a 4x4 frame, averaged; fan-in counts the 3x3."""
    frame = torch.zeros(*weight.shape[:2], 4, 4, dtype=torch.float64)
    for dy in range(2):
        for dx in range(2):
            frame[:, :, dy : dy + 3, dx : dx + 3] += weight.double() / 4
    return frame * sqrt(2 / (inputs * 9))


def styles_of(state: State, z: Tensor) -> Tensor:
    h = z.double()
    h = h / torch.sqrt((h**2).mean(1, keepdim=True) + 1e-8)
    index = 1
    while f"style.{index}.linear.bias" in state:
        h = F.leaky_relu(linear(state, f"style.{index}.linear", h), 0.2)
        index += 2
    return h


def up(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.0.weight" in state:
        kernel = fused_kernel(state[f"{name}.0.weight"], x.shape[1])
        return blurred(F.conv_transpose2d(x, kernel, bias(state, f"{name}.0"), stride=2, padding=1))
    return blurred(convolve(state, f"{name}.1.conv", F.interpolate(x, scale_factor=2, mode="nearest"), 1))


def generate(state: State, styles: Sequence[Tensor], noise: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The image of the last block's to-RGB, and every block's output. One style and one noise map per block."""
    features: list[Tensor] = []
    for i, (style, extra) in enumerate(zip(styles, noise, strict=True)):
        block = f"generator.progression.{i}"
        if i == 0:
            h = state[f"{block}.conv1.input"].double().repeat(len(style), 1, 1, 1)
        else:
            h = up(state, f"{block}.conv1", features[-1])
        for n in (1, 2):
            if n == 2:
                h = convolve(state, f"{block}.conv2.conv", h, 1)
            h = F.leaky_relu(h + scaled(state, f"{block}.noise{n}") * extra, 0.2)
            gamma, beta = linear(state, f"{block}.adain{n}.style.linear", style).chunk(2, 1)
            h = gamma[:, :, None, None] * F.instance_norm(h) + beta[:, :, None, None]
        features.append(h)
    return convolve(state, f"generator.to_rgb.{len(features) - 1}.conv", features[-1], 0), features


def discriminate(state: State, images: Tensor) -> Tensor:
    """[B, 1] logits. The standard deviation is taken over the whole batch."""
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("progression."))
    blocks = (images.shape[-1] // 4).bit_length()
    first = layers - blocks
    if f"from_rgb.{first}.0.conv.bias" in state:
        h = F.leaky_relu(convolve(state, f"from_rgb.{first}.0.conv", images, 0), 0.2)
    else:
        h = convolve(state, f"from_rgb.{first}.conv", images, 0)
    for index in range(first, layers - 1):
        block = f"progression.{index}"
        h = blurred(F.leaky_relu(convolve(state, f"{block}.conv1.0.conv", h, 1), 0.2))
        if f"{block}.conv2.1.weight" in state:
            kernel = fused_kernel(state[f"{block}.conv2.1.weight"], h.shape[1])
            h = F.conv2d(h, kernel, bias(state, f"{block}.conv2.1"), stride=2, padding=1)
        else:
            h = F.avg_pool2d(convolve(state, f"{block}.conv2.1.conv", h, 1), 2)
        h = F.leaky_relu(h, 0.2)
    spread = torch.sqrt(((h - h.mean(0)) ** 2).mean(0) + 1e-8).mean()
    h = torch.cat([h, spread.expand(len(h), 1, 4, 4)], 1)
    h = F.leaky_relu(convolve(state, f"progression.{layers - 1}.conv1.0.conv", h, 1), 0.2)
    h = F.leaky_relu(convolve(state, f"progression.{layers - 1}.conv2.0.conv", h, 0), 0.2)
    return linear(state, "linear.linear", h[:, :, 0, 0])
