"""The public StyleGAN1 PyTorch port: what its checkpoints hold, and which tensor becomes which of ours.

Its weights are unit-normal and scaled at run time, as ours, but its fused up-sampling kernels are laid out for a
transposed convolution. Block i works at 4 * 2^i pixels; the discriminator's layers count from the largest picture down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmgan.backbones.stylegan1 import FUSED, NEAREST, block_count, up_gain
from hmgan.errors import UserError
from hmgan.importers.import_report import LeftOut

NAME = "the StyleGAN1 PyTorch port"
OTHER = f"give a checkpoint of {NAME}, whole and unchanged"
AVERAGED, RAW, DISCRIMINATOR = "g_running", "generator", "discriminator"
CONST = "generator.progression.0.conv1.input"
LOGIT = "linear.linear.weight_orig"
BLUR = re.compile(r"(?:generator\.)?progression\.\d\.conv[12]\.\d\.weight(?:_flip)?")
LAYER = re.compile(r"(?:generator\.)?(progression|to_rgb|from_rgb)\.(\d)\.")


class Layout(NamedTuple):
    """How the port stores a tensor that we store as shape `ours`."""

    note: str
    theirs: Callable[[tuple[int, ...]], tuple[int, ...]]  # our shape -> the port's
    change: Callable[[Tensor], Tensor]  # the port's tensor -> ours


SAME = Layout("", lambda ours: ours, lambda tensor: tensor)
PER_CHANNEL = Layout("flattened", lambda ours: (1, *ours, 1, 1), torch.flatten)
FUSED_UP = Layout("transposed and flipped", lambda o: (o[1], o[0], *o[2:]), lambda k: k.transpose(0, 1).flip(2, 3))


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


class NetworkPlan(NamedTuple):
    """How one network of the port becomes a component of ours."""

    network: str  # "generator" or "discriminator"
    theirs: PortNetwork
    options: dict[str, Any]
    pairs: list[Pair]
    reason: Callable[[str], str]  # why a tensor that no pair names is left out
    component: str = "stylegan1"


class PortCheckpoint(NamedTuple):
    """What is taken from a file, and what is not."""

    plans: list[NetworkPlan]
    resolution: int
    weights: str  # the generator's key in the file
    notes: tuple[str, ...]
    unused: list[LeftOut]


class PortNetwork(NamedTuple):
    """A network's tensors by the port's names. A failed look-up is a UserError that names the file and the tensor."""

    where: str  # the file, for errors
    label: str  # the key within the file, "" for a bare state dict
    tensors: Mapping[str, Tensor]

    def full_name(self, name: str) -> str:
        """With the network's key, where it has one."""
        return f"{self.label}/{name}" if self.label else name

    def refused(self, name: str, problem: str, advice: str = OTHER) -> UserError:
        """What to raise where a tensor should be something else."""
        return UserError(f"{self.where}: {self.full_name(name)} should {problem}; {advice}")

    def get(self, name: str) -> Tensor:
        """The tensor of that name."""
        if name not in self.tensors:
            raise self.refused(name, "be in the file, got nothing")
        return self.tensors[name]

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor, which must have that many dimensions."""
        shape = tuple(self.get(name).shape)
        if len(shape) != dims or min(shape) < 1:
            raise self.refused(name, f"have {dims} dimensions, got shape {shape}")
        return shape

    def indices(self, pattern: str) -> list[int]:
        """The numbers that the pattern's one group takes among the names, sorted."""
        found = (re.fullmatch(pattern, name) for name in self.tensors)
        return sorted({int(match[1]) for match in found if match})


def read(path: Path, content: Mapping[str, Any], resolution: int | None, stddev_group: int) -> PortCheckpoint:
    """How the dictionary in a file is converted at a resolution, its highest where None.

    Raises: UserError unless it holds a generator of the port that has this output, in plain tensors.
    """
    networks, unused = split_networks(path, content)
    generator, discriminator = networks["generator"], networks.get("discriminator")
    known = generator.indices(r"generator\.to_rgb\.([0-8])\.conv\.weight_orig")
    sizes = [4 << i for i in known]
    if not sizes:
        raise UserError(f"{generator.where} should hold a to-RGB layer, got none; {OTHER}")
    if resolution is not None and resolution not in sizes:
        choices = ", ".join(map(str, sizes))
        raise UserError(f"{generator.where} has no output of {resolution} px; choose --resolution among {choices}")
    size = resolution or sizes[-1]
    plans = [plan_generator(generator, size)]
    if discriminator is not None:
        plans.append(plan_discriminator(discriminator, size, stddev_group))
        notes = [stddev_note(stddev_group)]
    else:
        notes = ["no discriminator in the file; training will begin with a new one"]
    # The port's to-RGB biases start at zero: one that has left it is of a resolution that training has come to.
    trained = [4 << i for i in known if bool(generator.get(f"generator.to_rgb.{i}.conv.bias").any())]
    if trained and size not in trained:
        notes.append(f"the to-RGB layer at {size} px looks untrained; consider --resolution {trained[-1]}")
    return PortCheckpoint(plans, size, generator.label or "bare state dict", tuple(notes), unused)


def stddev_note(group: int) -> str:
    """What D's minibatch deviation asks of a training."""
    if not group:
        return (
            "D takes its minibatch deviation over the whole batch, as the port does: it trains on one rank, undivided"
        )
    return (
        f"D takes its minibatch deviation over groups of {group} (--stddev-group), which each rank's batch must be a "
        "multiple of; the port takes the whole batch, which is --stddev-group 0"
    )


def split_networks(path: Path, content: Mapping[str, Any]) -> tuple[dict[str, PortNetwork], list[LeftOut]]:
    """The generator, the discriminator where there is one, and what else the file holds."""
    if not {AVERAGED, RAW} & content.keys() and any(isinstance(value, Tensor) for value in content.values()):
        content = {"": content}  # one network's tensors, not a dictionary of networks
    parts = {key: _strip(value) for key, value in content.items() if isinstance(value, Mapping)}
    picked = {"generator": _chosen_generator(path, parts, content)}
    if DISCRIMINATOR in parts:
        picked["discriminator"] = DISCRIMINATOR
    networks = {name: PortNetwork(str(path), key, parts[key]) for name, key in picked.items()}
    for network in networks.values():
        _check_plain(network)
    rest = {key: value for key, value in content.items() if key not in picked.values()}
    return networks, [entry for key, value in rest.items() for entry in _left_out(key, value)]


def _chosen_generator(path: Path, parts: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The key of the generator to take. Raises UserError where there is none."""
    chosen = next((key for key in (AVERAGED, RAW, "") if key in parts), None)
    if chosen is None:
        keys = ", ".join(sorted(content)[:6]) or "nothing"
        raise UserError(f"{path} should have {AVERAGED!r} or {RAW!r}, got {keys}; {OTHER}")
    if CONST not in parts[chosen]:
        got = "a discriminator" if LOGIT in parts[chosen] else f"{len(parts[chosen])} others"
        raise UserError(f"{path}: {chosen or 'the file'} should hold {CONST}, got {got}; {OTHER}")
    return chosen


def _left_out(key: str, value: Any) -> list[LeftOut]:
    """A part that is not used; the raw generator is one only beside its moving average."""
    if key == RAW and isinstance(value, Mapping):
        reason = f"raw weights; {AVERAGED} is used"
        return [LeftOut("raw generator", f"{key}/{name}", reason) for name in _strip(value)]
    return [LeftOut(key, key, f"no network of the port, {_count(value)} tensors")]


def _strip(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Without the prefix that DataParallel puts before every name."""
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _check_plain(port: PortNetwork) -> None:
    """Raises UserError unless every value is a dense floating-point tensor with memory of its own."""
    for name, value in port.tensors.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        # A tensor can claim more numbers than its file holds; copying one would fill the memory.
        if dense and value.is_floating_point() and value.nbytes <= value.untyped_storage().nbytes():
            continue
        got = f"{value.dtype} {tuple(value.shape)}" if dense else f"a {type(value).__name__}"
        raise port.refused(name, f"be a floating-point tensor, got {got}")


def _count(value: Any) -> int:
    """Tensors anywhere in nested dictionaries and lists."""
    if isinstance(value, Mapping):
        return sum(map(_count, value.values()))
    return sum(map(_count, value)) if isinstance(value, list | tuple) else int(isinstance(value, Tensor))


def plan_generator(port: PortNetwork, resolution: int) -> NetworkPlan:
    """The generator up to `resolution`. Raises UserError where a tensor that decides a width is missing."""
    blocks = block_count(resolution)
    widths = [port.shape(f"generator.progression.{i}.conv2.conv.weight_orig", 4)[0] for i in range(blocks)]
    layers = len(port.indices(r"style\.(\d{1,3})\.linear\.weight_orig"))
    pairs = [pair for i in range(layers) for pair in _layer(f"mapping.{2 * i + 1}", f"style.{2 * i + 1}.linear")]
    for i in range(blocks):
        ours, theirs = f"blocks.{i}", f"generator.progression.{i}"
        pairs += _up_layer(port, i) if i else [Pair("blocks.0.const", CONST)]
        pairs += _layer(f"{ours}.conv2", f"{theirs}.conv2.conv")
        for n in (1, 2):
            pairs.append(Pair(f"{ours}.noise{n}.weight", f"{theirs}.noise{n}.weight_orig", PER_CHANNEL))
            pairs += _layer(f"{ours}.norm{n}.style", f"{theirs}.adain{n}.style.linear")
    pairs += _layer("to_rgb", f"generator.to_rgb.{blocks - 1}.conv")
    z_dim = port.shape("style.1.linear.weight_orig", 2)[1]
    options = {"resolution": resolution, "channels": widths, "z_dim": z_dim, "mapping_layers": layers}
    return NetworkPlan("generator", port, options, pairs, partial(_reason, port, resolution, range(blocks, 10)))


def plan_discriminator(port: PortNetwork, resolution: int, stddev_group: int) -> NetworkPlan:
    """The discriminator from `resolution` down. Raises UserError if the file's is for smaller pictures only."""
    blocks = block_count(resolution)
    layers = max(port.indices(r"progression\.(\d)\.conv1\.0\.conv\.weight_orig"), default=-1) + 1
    first = layers - blocks
    if first < 0:
        got = f"one that reads {4 << (layers - 1)} px" if layers else "none of its layers"
        problem = f"the discriminator should read {resolution} px, got {got}"
        raise UserError(f"{port.where}: {problem}; choose a lower --resolution")
    activation = f"from_rgb.{first}.0.conv.weight_orig" in port.tensors
    from_rgb = f"from_rgb.{first}.0.conv" if activation else f"from_rgb.{first}.conv"
    widths = [port.shape(f"{from_rgb}.weight_orig", 4)[0]]
    pairs = _layer("from_rgb", from_rgb)
    for i in range(blocks - 1):
        ours, theirs = f"blocks.{i}", f"progression.{first + i}"
        widths.append(port.shape(f"{theirs}.conv1.0.conv.weight_orig", 4)[0])
        pairs += _layer(f"{ours}.conv1", f"{theirs}.conv1.0.conv")
        # Convolving and averaging 2x2 pixels is the fused kernel, so that both kinds of layer have the same weights.
        fused = f"{theirs}.conv2.1.weight" in port.tensors
        conv2 = (f"{theirs}.conv2.1", "weight") if fused else (f"{theirs}.conv2.1.conv",)
        pairs += _layer(f"{ours}.conv2", *conv2)
    pairs += _layer("conv1", f"progression.{layers - 1}.conv1.0.conv")
    pairs += _layer("conv2", f"progression.{layers - 1}.conv2.0.conv")
    pairs += _layer("head", "linear.linear")
    options: dict[str, Any] = {"resolution": resolution, "channels": widths[::-1], "rgb_activation": activation}
    options["stddev_group"] = stddev_group
    return NetworkPlan("discriminator", port, options, pairs, partial(_reason, port, resolution, range(first)))


def _layer(ours: str, theirs: str, weight: str = "weight_orig") -> list[Pair]:
    return [Pair(f"{ours}.weight", f"{theirs}.{weight}"), Pair(f"{ours}.bias", f"{theirs}.bias")]


def _up_layer(port: PortNetwork, block: int) -> list[Pair]:
    """The convolution that doubles the resolution. Where only ours is fused, its weights are four times as large."""
    ours, theirs = f"blocks.{block}.conv1", f"generator.progression.{block}.conv1"
    if f"{theirs}.0.weight" in port.tensors:
        (weight, bias), layout, gain = _layer(ours, f"{theirs}.0", "weight"), FUSED_UP, FUSED
    else:
        (weight, bias), layout, gain = _layer(ours, f"{theirs}.1.conv"), SAME, NEAREST
    return [weight._replace(layout=layout, scale=gain / up_gain(block)), bias]


def _reason(port: PortNetwork, resolution: int, above: range, name: str) -> str:
    """Why a tensor is left out. Raises UserError for a blur buffer with another kernel than [1, 2, 1]'s."""
    kernel = port.tensors[name]
    if BLUR.fullmatch(name) and kernel.ndim == 4 and kernel.shape[1:] == (1, 3, 3):
        taps = torch.tensor([1.0, 2.0, 1.0])
        if not torch.allclose(kernel.float(), (torch.outer(taps, taps) / 16).expand(kernel.shape), atol=1e-3):
            raise port.refused(name, "blur by [1, 2, 1], got another kernel")
        return "constant"
    match = LAYER.match(name)
    if match and int(match[2]) in above:
        return f"above {resolution} px"
    if match and match[1] != "progression":
        return f"{match[1].replace('_rgb', '-RGB')} below {resolution} px"
    return "no layer of this architecture"
