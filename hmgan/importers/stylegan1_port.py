"""Which tensor of the public StyleGAN1 port becomes which of ours: names, shapes and layouts, no files.

The port stores unit-normal weights and multiplies sqrt(2 / fan_in) in at run time, as we do, so that most tensors are
taken as they are. Its fused up-sampling kernels are laid out for a transposed convolution, ours for a convolution.

Legend: block i works at 4 * 2^i pixels; the port counts the discriminator's layers from the largest picture downwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmgan.backbones.stylegan1 import FUSED, FUSED_FROM_PIXELS, NEAREST, block_count
from hmgan.errors import UserError

CONST = "generator.progression.0.conv1.input"
LOGIT = "linear.linear.weight_orig"
BLUR = re.compile(r"(?:generator\.)?progression\.\d\.conv[12]\.\d\.weight(?:_flip)?")


class Layout(NamedTuple):
    """How the port stores a tensor that we store as shape `ours`."""

    note: str
    theirs: Callable[[tuple[int, ...]], tuple[int, ...]]  # our shape -> the port's
    change: Callable[[Tensor], Tensor]  # the port's tensor -> ours


SAME = Layout("", lambda ours: ours, lambda tensor: tensor)
PER_CHANNEL = Layout("flattened", lambda ours: (1, *ours, 1, 1), torch.flatten)
FUSED_UP = Layout(
    "transposed and flipped",
    lambda ours: (ours[1], ours[0], *ours[2:]),
    lambda kernel: kernel.transpose(0, 1).flip(2, 3),
)


class Pair(NamedTuple):
    """One tensor of ours, the port's that it comes from, and what is done to it on the way."""

    ours: str
    theirs: str
    layout: Layout = SAME
    scale: float = 1.0

    def note(self) -> str:
        return ", ".join(filter(None, [self.layout.note, f"times {self.scale:g}" if self.scale != 1 else ""]))

    def convert(self, tensor: Tensor) -> Tensor:
        return (self.layout.change(tensor.float()) * self.scale).contiguous()


class Plan(NamedTuple):
    """How one network of the port becomes a component of ours."""

    options: dict[str, Any]
    pairs: tuple[Pair, ...]
    reason: Callable[[str], str]  # why a tensor that no pair names is left out


class PortNetwork(NamedTuple):
    """A network's tensors by the port's names. A failed look-up is a UserError that names the file and the tensor."""

    where: str  # the file, for errors
    label: str  # the key within the file, "" for a bare state dict
    tensors: Mapping[str, Tensor]

    def full_name(self, name: str) -> str:
        return f"{self.label}/{name}" if self.label else name

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        shape = tuple(self.get(name).shape)
        if len(shape) != dims or min(shape) < 1:
            raise UserError(
                f"{self.where}: {self.full_name(name)} should have {dims} dimensions, got shape {shape}; {OTHER}"
            )
        return shape

    def get(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise UserError(f"{self.where}: {self.full_name(name)} should be in the file, got nothing; {OTHER}")
        return self.tensors[name]

    def indices(self, pattern: str) -> list[int]:
        """The numbers that the pattern's one group takes among the names, sorted."""
        found = (re.fullmatch(pattern, name) for name in self.tensors)
        return sorted({int(match[1]) for match in found if match})


OTHER = "give a checkpoint of the StyleGAN1 PyTorch port, whole and unchanged"


def resolutions(generator: PortNetwork) -> list[int]:
    """The output sizes that the file has a to-RGB layer for."""
    return [4 << i for i in generator.indices(r"generator\.to_rgb\.([0-8])\.conv\.weight_orig")]


def trained_resolutions(generator: PortNetwork) -> list[int]:
    """Those whose to-RGB bias left zero, where the port starts it: training has come that far."""
    names = {size: f"generator.to_rgb.{block_count(size) - 1}.conv.bias" for size in resolutions(generator)}
    return [size for size, name in names.items() if bool(generator.get(name).any())]


def plan_generator(port: PortNetwork, resolution: int) -> Plan:
    """The generator up to `resolution`. Raises UserError where a tensor that decides a width is missing."""
    blocks = block_count(resolution)
    widths = [port.shape(f"generator.progression.{i}.conv2.conv.weight_orig", 4)[0] for i in range(blocks)]
    layers = len(port.indices(r"style\.(\d{1,3})\.linear\.weight_orig"))
    pairs = [pair for i in range(layers) for pair in _layer(f"mapping.{2 * i + 1}", f"style.{2 * i + 1}.linear")]
    for i in range(blocks):
        theirs = f"generator.progression.{i}"
        pairs += _up_layer(port, i) if i else [Pair("blocks.0.const", CONST)]
        pairs += _layer(f"blocks.{i}.conv2", f"{theirs}.conv2.conv")
        for n in (1, 2):
            pairs.append(Pair(f"blocks.{i}.noise{n}.weight", f"{theirs}.noise{n}.weight_orig", PER_CHANNEL))
            pairs += _layer(f"blocks.{i}.norm{n}.style", f"{theirs}.adain{n}.style.linear")
    pairs += _layer("to_rgb", f"generator.to_rgb.{blocks - 1}.conv")

    def reason(name: str) -> str:
        match = re.match(r"generator\.(progression|to_rgb)\.(\d)\.", name)
        if not match:
            return "no layer of this architecture"
        if int(match[2]) >= blocks:
            return f"above {resolution} px"
        return f"to-RGB below {resolution} px" if match[1] == "to_rgb" else "no layer of this architecture"

    z_dim = port.shape("style.1.linear.weight_orig", 2)[1]
    options = {"resolution": resolution, "channels": widths, "z_dim": z_dim, "mapping_layers": layers}
    return Plan(options, tuple(pairs), reason)


def plan_discriminator(port: PortNetwork, resolution: int, stddev_group: int) -> Plan:
    """The discriminator from `resolution` down. Raises UserError if the file's is for smaller pictures only."""
    blocks = block_count(resolution)
    layers = max(port.indices(r"progression\.(\d)\.conv1\.0\.conv\.weight_orig"), default=-1) + 1
    first = layers - blocks
    if first < 0:
        got = f"one that reads {4 << (layers - 1)} px" if layers else "none of its layers"
        raise UserError(
            f"{port.where}: the discriminator should read {resolution} px, got {got}; choose a lower --resolution"
        )
    activation = f"from_rgb.{first}.0.conv.weight_orig" in port.tensors
    from_rgb = f"from_rgb.{first}.0.conv" if activation else f"from_rgb.{first}.conv"
    widths = [port.shape(f"{from_rgb}.weight_orig", 4)[0]]
    pairs = _layer("from_rgb", from_rgb)
    for i in range(blocks - 1):
        theirs = f"progression.{first + i}"
        widths.append(port.shape(f"{theirs}.conv1.0.conv.weight_orig", 4)[0])
        pairs += _layer(f"blocks.{i}.conv1", f"{theirs}.conv1.0.conv")
        # Convolving and averaging 2x2 pixels is the fused kernel, so that both kinds of layer have the same weights.
        fused = f"{theirs}.conv2.1.weight" in port.tensors
        pairs += (
            _fused(f"blocks.{i}.conv2", f"{theirs}.conv2.1")
            if fused
            else _layer(f"blocks.{i}.conv2", f"{theirs}.conv2.1.conv")
        )
    pairs += _layer("conv1", f"progression.{layers - 1}.conv1.0.conv")
    pairs += _layer("conv2", f"progression.{layers - 1}.conv2.0.conv")
    pairs += _layer("head", "linear.linear")

    def reason(name: str) -> str:
        match = re.match(r"(progression|from_rgb)\.(\d)\.", name)
        if not match:
            return "no layer of this architecture"
        if int(match[2]) < first:
            return f"above {resolution} px"
        return f"from-RGB below {resolution} px" if match[1] == "from_rgb" else "no layer of this architecture"

    options = {"resolution": resolution, "channels": widths[::-1], "rgb_activation": activation}
    return Plan({**options, "stddev_group": stddev_group}, tuple(pairs), reason)


def check_blur(port: PortNetwork, name: str) -> bool:
    """Whether `name` is a blur buffer. Raises UserError if it is one with another kernel than [1, 2, 1]'s."""
    kernel = port.tensors[name]
    if not BLUR.fullmatch(name) or kernel.ndim != 4 or kernel.shape[1:] != (1, 3, 3):
        return False
    taps = torch.tensor([1.0, 2.0, 1.0])
    if not torch.allclose(kernel.float(), (torch.outer(taps, taps) / 16).expand(kernel.shape), atol=1e-3):
        raise UserError(f"{port.where}: {port.full_name(name)} should blur by [1, 2, 1], got another kernel; {OTHER}")
    return True


def _layer(ours: str, theirs: str) -> list[Pair]:
    return [Pair(f"{ours}.weight", f"{theirs}.weight_orig"), Pair(f"{ours}.bias", f"{theirs}.bias")]


def _fused(ours: str, theirs: str) -> list[Pair]:
    return [Pair(f"{ours}.weight", f"{theirs}.weight"), Pair(f"{ours}.bias", f"{theirs}.bias")]


def _up_layer(port: PortNetwork, block: int) -> list[Pair]:
    """The convolution that doubles the resolution, from either of the port's kinds.

    The port can be built without fused layers; then a block that is fused here takes weights four times as large.
    """
    ours, theirs = f"blocks.{block}.conv1", f"generator.progression.{block}.conv1"
    own_gain = FUSED if 4 << block >= FUSED_FROM_PIXELS else NEAREST
    fused = f"{theirs}.0.weight" in port.tensors
    weight, bias = _fused(ours, f"{theirs}.0") if fused else _layer(ours, f"{theirs}.1.conv")
    layout, gain = (FUSED_UP, FUSED) if fused else (SAME, NEAREST)
    return [weight._replace(layout=layout, scale=gain / own_gain), bias]
