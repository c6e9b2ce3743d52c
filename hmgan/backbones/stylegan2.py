"""StyleGAN2's generator (Karras et al. 2020a), by its release's tensor names. B batch, C channels, W style width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import rng
from hmgan.backbones.styled import StyledBackbone
from hmgan.backbones.stylegan1 import block_count, block_widths
from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.edits import SOURCE, Edits, per_sample
from hmgan.layers.equalized import leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.mapping import Mapping
from hmgan.layers.modulated import ModulatedConv2d
from hmgan.layers.resample import BINOMIAL, normalised_filter, resample
from hmgan.layers.sites import WeightSite
from hmgan.types import Count, GenOut, Weight, Whole

LONGEST = 4  # a side, in resolutions: forks have smallest maps of 3 x 5 and the like


class Takes(NamedTuple):
    """What all layers of a pass take."""

    noise: Iterator[Tensor]  # [B, 1, H, W] for each layer
    edits: Edits
    clamp: float


def published_widths(resolution: int, channels: Sequence[int] | None) -> tuple[int, ...]:
    """Channels per block, 4 px first: those given, or min(base / pixels, 512), base 16384 below 512 px, else 32768.

    Raises: UserError for a resolution or widths that do not fit.
    """
    base = 16384 if resolution < 512 else 32768
    return block_widths(resolution, channels or [min(base // (4 << i), 512) for i in range(block_count(resolution))])


def start_size(resolution: int, height: int | None, width: int | None) -> tuple[int, int]:
    """Rows and columns of the smallest map. Raises UserError for sides that the resolution does not divide into."""
    sides, unit = (height or resolution, width or resolution), resolution // 4
    if any(side % unit or not 0 < side <= LONGEST * resolution for side in sides):
        limit, got = f"{LONGEST} times resolution {resolution}", f"got {sides[0]} x {sides[1]}"
        raise UserError(f"height and width must be multiples of {unit} up to {limit}, {got}")
    return sides[0] // unit, sides[1] // unit


class Layer(ModulatedConv2d):
    """A modulated 3x3, filtered where it doubles the resolution; noise, bias, leaky ReLU, clamp."""

    noise_const: Tensor
    filter_n: Tensor

    def __init__(
        self, name: str, inputs: int, outputs: int, w_dim: int, size: tuple[int, int], filter_n: Tensor, up: bool
    ) -> None:
        super().__init__(name, inputs, outputs, w_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(size))
        self.register_buffer("filter_n", filter_n, persistent=False)

    def activated(self, x: Tensor, w_BW: Tensor, noise_B1HW: Tensor, takes: Takes, gain: float = 1.0) -> Tensor:
        """The layer, times `gain`. [B, I, H, W] -> [B, O, H', W']."""
        # A leaky ReLU is linear in positive factors: its gain is taken before it, where it costs nothing.
        gain *= math.sqrt(2)
        y, bias_BO = self(x, w_BW, takes.edits, gain)
        if self.up:
            n = len(self.filter_n)
            before, after = (n + 1) // 2 - 1, (n - 2) // 2
            y = resample(y, 2 * self.filter_n, pads=(before, after, before, after))
        # Noise and bias first: together one map, which the product is added to.
        extra = gain * (self.noise_strength * noise_B1HW + bias_BO[..., None, None])
        return clamped(leaky_relu(y + extra.to(y.dtype)), takes.clamp * gain / math.sqrt(2))


class ToRGB(ModulatedConv2d):
    """A modulated 1x1 without demodulation: image channels, in float32."""

    def __init__(self, name: str, inputs: int, outputs: int, w_dim: int) -> None:
        super().__init__(name, inputs, outputs, w_dim, 1, demodulate=False)

    def image(self, x: Tensor, w_BW: Tensor, takes: Takes) -> Tensor:
        """[B, I, H, W] -> [B, O, H, W]."""
        with unrounded(x):
            y, bias_BO = self(widened(x), w_BW, takes.edits)
            return clamped(y + bias_BO[..., None, None], takes.clamp)


class Skip(nn.Module):
    """The residual architecture's way past a block: a 1x1, and twice the resolution."""

    filter_n: Tensor

    def __init__(self, inputs: int, outputs: int, filter_n: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.gain = 1 / math.sqrt(inputs)
        self.register_buffer("filter_n", filter_n, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return doubled(torch.conv2d(x, self.weight * (self.gain * math.sqrt(0.5))), self.filter_n)


def doubled(x: Tensor, filter_n: Tensor) -> Tensor:
    """Twice the resolution. [B, C, H, W] -> [B, C, 2H, 2W]."""
    n = len(filter_n)
    before, after = (n + 1) // 2, (n - 2) // 2
    return resample(x, filter_n, up=2, pads=(before, after, before, after))


def clamped(x: Tensor, limit: float) -> Tensor:
    """Within +-limit; as it is where that is 0."""
    return F.hardtanh(x, -limit, limit) if limit else x  # a clamp whose gradient is one pass


class FirstBlock(WeightSite):
    """4 pixels: the learned constant, to which a class may add, a layer, and to-RGB."""

    additive = True
    axes = (1, 2)
    no_bias: Tensor

    def __init__(self, name: str, width: int, w_dim: int, size: tuple[int, int], rgb: int, filter_n: Tensor) -> None:
        super().__init__(f"{name}.const")
        self.const = nn.Parameter(torch.randn(width, *size))
        self.register_buffer("no_bias", torch.empty(0), persistent=False)
        self.conv1 = Layer(f"{name}.conv1", width, width, w_dim, size, filter_n, up=False)
        self.torgb = ToRGB(f"{name}.torgb", width, rgb, w_dim) if rgb else None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The constant, under the name that files have for it."""
        return self.const

    @property
    def bias(self) -> Tensor:  # type: ignore[override]
        """None: an empty tensor."""
        return self.no_bias

    def forward(self, x: Tensor | None, takes: Takes, styles: Sequence[Tensor]) -> Tensor:
        edits, batch = takes.edits, styles[0].shape[0]
        edit = edits.weights.get(self.name)
        if edit is None:
            h = self.const.expand(batch, -1, -1, -1)
        else:
            h = per_sample(edit.weights(self.const, self.bias)[0], edits.counts)
        return self.conv1.activated(h, styles[0], next(takes.noise), takes)


class UpBlock(nn.Module):
    """Twice the resolution: two layers, to-RGB where the architecture has one here, and the residual one's skip."""

    def __init__(
        self,
        name: str,
        inputs: int,
        width: int,
        w_dim: int,
        size: tuple[int, int],
        rgb: int,
        filter_n: Tensor,
        residual: bool,
    ) -> None:
        super().__init__()
        self.conv0 = Layer(f"{name}.conv0", inputs, width, w_dim, size, filter_n, up=True)
        self.conv1 = Layer(f"{name}.conv1", width, width, w_dim, size, filter_n, up=False)
        self.torgb = ToRGB(f"{name}.torgb", width, rgb, w_dim) if rgb else None
        self.skip = Skip(inputs, width, filter_n) if residual else None

    def forward(self, x: Tensor, takes: Takes, styles: Sequence[Tensor]) -> Tensor:
        h = self.conv0.activated(x, styles[0], next(takes.noise), takes)
        if self.skip is None:
            return self.conv1.activated(h, styles[1], next(takes.noise), takes)
        return self.skip(x) + self.conv1.activated(h, styles[1], next(takes.noise), takes, math.sqrt(0.5))


class Synthesis(nn.Module):
    """Blocks b4, b8, ... by their names in files."""


@register("backbone", "stylegan2")
class StyleGAN2(StyledBackbone):
    """Mapping network, modulated convolutions, and images from one resolution or summed over all.

    Tensors have the names of the PyTorch release: mapping.fc0.weight, synthesis.b8.conv0.affine.weight.

    Args:
        resolution: pixels of a side that begins with 4, a power of two from 8 to 1024.
        height: pixels, a multiple of resolution / 4 up to 4 resolutions; the resolution where left out.
        width: pixels, likewise.
        z_dim: width of z.
        w_dim: width of w.
        mapping_layers: depth of the mapping network.
        mapping_lr_mult: of its learning rate, relative to all other layers.
        channels: width per block, 4 px first; min(16384 / pixels, 512) where left out, from 512 px on twice that.
        architecture: "skip" sums images of all resolutions, "resnet" has residual blocks, "orig" neither.
        clamp: what no activation exceeds, as files of mixed-precision training have it; 0 for no limit.
        filter: taps of the filter between resolutions; 1, 3, 3, 1 where left out.
        channels_out: of an image.
        label_dim: numbers of a class that the mapping takes beside z; 0 for none.
        label_joins_z: z and the label's embedding are normalised as one, as in StyleGAN2's first release.
        noise: maps drawn for each image, the constant ones that it keeps, or none.

    Raises: UserError for a resolution, sides or widths that do not fit.
    """

    filter_n: Tensor

    def __init__(
        self,
        *,
        resolution: Count = 256,
        height: Count | None = None,
        width: Count | None = None,
        z_dim: Count = 512,
        w_dim: Count = 512,
        mapping_layers: Whole = 8,
        mapping_lr_mult: Weight = 0.01,
        channels: list[Count] | None = None,
        architecture: Literal["skip", "resnet", "orig"] = "skip",
        clamp: Weight = 0.0,
        filter: list[float] | None = None,
        channels_out: Count = 3,
        label_dim: Whole = 0,
        label_joins_z: bool = False,
        noise: Literal["random", "const", "none"] = "random",
    ) -> None:
        super().__init__()
        widths = published_widths(resolution, channels)
        self.start = start = start_size(resolution, height, width)
        self.resolution, self.widths, self.z_dim, self.label_dim = resolution, widths, z_dim, label_dim
        self.architecture, self.noise, self.clamp, self.num_ws = architecture, noise, clamp, 2 * len(widths)
        self.mapping = Mapping(z_dim, label_dim, w_dim, mapping_layers, mapping_lr_mult, 0.995, label_joins_z)
        self.synthesis = Synthesis()
        filter_n = normalised_filter(filter or BINOMIAL)
        for i, (inputs, outputs) in enumerate(zip((0, *widths), widths, strict=False)):
            name, size = f"synthesis.b{4 << i}", (start[0] << i, start[1] << i)
            rgb = channels_out if architecture == "skip" or i == len(widths) - 1 else 0
            block: nn.Module
            if i:
                residual = architecture == "resnet"
                block = UpBlock(name, inputs, outputs, w_dim, size, rgb, filter_n, residual)
            else:
                block = FirstBlock(name, outputs, w_dim, size, rgb, filter_n)
            self.synthesis.add_module(f"b{4 << i}", block)
        self.register_buffer("filter_n", filter_n, persistent=False)

    def maps(self) -> Sequence[tuple[int, int]]:
        return [(width, (self.start[0] << i) * (self.start[1] << i)) for i, width in enumerate(self.widths)]

    def layers(self) -> list[Layer]:
        """Those with noise, in the order in which they act."""
        return [m for m in self.modules() if isinstance(m, Layer)]

    def noise_maps(self, keys: Sequence[int]) -> tuple[Tensor, ...]:
        """One [B, 1, H, W] per layer; zeros where there is to be no noise."""
        constants = [layer.noise_const for layer in self.layers()]
        if self.noise != "random":
            shown = [constant if self.noise == "const" else torch.zeros_like(constant) for constant in constants]
            return tuple(constant.expand(len(keys), 1, -1, -1) for constant in shown)
        # A stream of its own: z is the same whatever becomes of the noise.
        rows = rng.normal_rows([key ^ 2 for key in keys], sum(c.numel() for c in constants)).to(constants[0].device)
        maps = zip(rows.split([c.numel() for c in constants], 1), constants, strict=True)
        return tuple(row.view(len(keys), 1, *constant.shape) for row, constant in maps)

    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor], edits: Edits = SOURCE) -> GenOut:
        takes, at = Takes(iter(noise), edits, self.clamp), 0
        h: Tensor | None = None
        image: Tensor | None = None
        features = []
        blocks: list[Any] = list(self.synthesis.children())
        for block in blocks:
            h = block(h, takes, styles[at:])
            features.append(h)
            at += 2 if at else 1
            if block.torgb is not None:
                rgb = block.torgb.image(h, styles[at], takes)
                image = rgb if image is None else doubled(image, self.filter_n) + rgb
        assert image is not None
        return GenOut(image, tuple(features))
