"""The public StyleGAN2 PyTorch port's .pt files: converted official networks, and checkpoints of its training.

Its tensors become ours without flips or transposes. Not in the file, and assumed: the mapping's rate 0.01, the filter
1, 3, 3, 1 and no clamp, which its code has no other values for.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hmgan.importers.foreign import (
    NO_DISCRIMINATOR,
    Checkpoint,
    File,
    ForeignNetwork,
    NetworkPlan,
    New,
    Pair,
    check_resolution,
    no_reason,
)
from hmgan.importers.layouts import FIRST, MAP, PER_CHANNEL, SCALAR
from hmgan.importers.pickled.content import Content
from hmgan.importers.stylegan2_judges import plan_judge
from hmgan.importers.stylegan2_layers import generator_options

GENERATORS, DISCRIMINATOR, MEAN = ("g_ema", "g"), "d", "latent_avg"
MARK, MARK_D = "input.input", "final_conv.0.weight"
KERNEL = re.compile(r"(.*\.)?kernel")
MEAN_SAMPLES = 4096
GROUP = 4


def holds(content: Content) -> bool:
    """Whether a file holds a generator of the port, in a dictionary or bare."""
    root = content.mapping(content.root) or {}
    states = [root, *(content.mapping(root.get(key)) or {} for key in GENERATORS)]
    return any(MARK in {str(key).removeprefix("module.") for key in state} for state in states)


def read(file: File, resolution: int | None, stddev_group: int | None) -> Checkpoint:
    """The averaged generator, or the raw one, the discriminator, and the mean w, where the file has them."""
    root = file.content.mapping(file.content.root) or {}
    marked = {str(key).removeprefix("module.") for key in root}
    parts: dict[Any, Any] = {"": file.content.root} if MARK in marked else dict(root)
    states = {str(key): state for key, node in parts.items() if (state := file.content.mapping(node)) is not None}
    chosen = next(key for key in (*GENERATORS, "") if key in states)
    views = {name: view for name, view in file.views(chosen, states[chosen]).items() if not KERNEL.fullmatch(name)}
    theirs = file.network(chosen, views)
    used, notes = {chosen}, [f"architecture read from the shapes of {chosen or 'the state dict'}"]
    mean = None
    if MEAN in parts:
        mean = file.network("", file.views("", {MEAN: parts[MEAN]}))
        used.add(MEAN)
    else:
        notes.append(f"no {MEAN} in the file: the mean w is that of {MEAN_SAMPLES} mapped z")
    plan = plan_generator(theirs, mean)
    plans, size = [plan], plan.options["resolution"]
    check_resolution(file.where, resolution, size)
    if DISCRIMINATOR in states:
        state = file.views(DISCRIMINATOR, states[DISCRIMINATOR])
        kept = {name: view for name, view in state.items() if not KERNEL.fullmatch(name)}
        plans.append(plan_discriminator(file.network(DISCRIMINATOR, kept), size, stddev_group))
        used.add(DISCRIMINATOR)
    else:
        notes.append(NO_DISCRIMINATOR)
    unused = []
    for key, node in parts.items():
        if key not in used:
            unused += file.left_out(
                str(key), node, "raw weights; g_ema is used" if key == "g" else "no part of a source"
            )
    return Checkpoint(plans, f"{size} px", chosen or "bare state dict", tuple(notes), unused)


def plan_generator(theirs: ForeignNetwork, mean: ForeignNetwork | None) -> NetworkPlan:
    """The generator: widths and depths from the shapes."""
    ups = theirs.indices(r"to_rgbs\.(\d)\.conv\.weight")
    depth = theirs.indices(r"style\.(\d{1,2})\.weight")
    if ups != list(range(len(ups))) or not ups or depth != list(range(1, len(depth) + 1)):
        raise theirs.refused("to_rgbs and style", "count without a gap, got " + str((ups, depth)))
    pairs = generator_pairs(len(depth), len(ups))
    new, tensors = {}, dict(theirs.tensors)
    for noise in noise_pairs(len(ups)):
        if noise.theirs in tensors:
            pairs.append(noise)
        else:
            new[noise.ours] = New(partial(_drawn, noise.ours), "no noise map in the file: drawn")
    if mean is None:
        new["mapping.w_avg"] = New(mean_w, f"mean of {MEAN_SAMPLES} mapped z")
    else:
        tensors[MEAN] = mean.get(MEAN).flatten()
        pairs.append(Pair("mapping.w_avg", MEAN))
    whole = theirs._replace(tensors=tensors)
    renamed = {p.ours: whole.changed(p) for p in pairs if whole.get(p.theirs).dim()}
    options = generator_options(ForeignNetwork(theirs.where, theirs.label, renamed))
    return NetworkPlan("generator", whole, options, pairs, partial(no_reason, whole), "stylegan2", new)


def generator_pairs(depth: int, ups: int) -> list[Pair]:
    """What every generator has, of a mapping so deep and so many doublings of the resolution."""
    pairs = [pair for i in range(depth) for pair in _both(f"mapping.fc{i}", f"style.{i + 1}")]
    pairs.append(Pair("synthesis.b4.const", MARK, FIRST))
    pairs += [*_layer("synthesis.b4.conv1", "conv1"), *_rgb("synthesis.b4.torgb", "to_rgb1")]
    for i in range(ups):
        block = f"synthesis.b{8 << i}"
        pairs += _layer(f"{block}.conv0", f"convs.{2 * i}") + _layer(f"{block}.conv1", f"convs.{2 * i + 1}")
        pairs += _rgb(f"{block}.torgb", f"to_rgbs.{i}")
    return pairs


def noise_pairs(ups: int) -> list[Pair]:
    """The noise maps, which some files lack."""
    layers = ["b4.conv1", *(f"b{8 << i}.conv{n}" for i in range(ups) for n in (0, 1))]
    return [Pair(f"synthesis.{layer}.noise_const", f"noises.noise_{i}", MAP) for i, layer in enumerate(layers)]


def plan_discriminator(theirs: ForeignNetwork, resolution: int, stddev_group: int | None) -> NetworkPlan:
    """The discriminator: residual blocks from the largest picture down. Groups of 4, as the port's code has it."""
    blocks = theirs.indices(r"convs\.(\d)\.skip\.1\.weight")
    if len(blocks) != int(math.log2(resolution)) - 2 or blocks != list(range(1, len(blocks) + 1)):
        raise theirs.refused("convs", f"have the residual blocks of {resolution} px, got {len(blocks)}")
    pairs = _two(f"b{resolution}.fromrgb", "convs.0.0.weight", "convs.0.1.bias")
    for i in blocks:
        ours, block = f"b{resolution >> (i - 1)}", f"convs.{i}"
        pairs += _two(f"{ours}.conv0", f"{block}.conv1.0.weight", f"{block}.conv1.1.bias")
        pairs += _two(f"{ours}.conv1", f"{block}.conv2.1.weight", f"{block}.conv2.2.bias")
        pairs.append(Pair(f"{ours}.skip.weight", f"{block}.skip.1.weight"))
    pairs += _two("b4.conv", MARK_D, "final_conv.1.bias")
    pairs += [*_both("b4.fc", "final_linear.0"), *_both("b4.out", "final_linear.1")]
    group = GROUP if stddev_group is None else stddev_group
    return plan_judge(theirs, pairs, group, partial(no_reason, theirs), {}, {})


def _two(ours: str, weight: str, bias: str) -> list[Pair]:
    return [Pair(f"{ours}.weight", weight), Pair(f"{ours}.bias", bias)]


def _both(ours: str, theirs: str) -> list[Pair]:
    return _two(ours, f"{theirs}.weight", f"{theirs}.bias")


def _layer(ours: str, theirs: str) -> list[Pair]:
    return [
        Pair(f"{ours}.weight", f"{theirs}.conv.weight", FIRST),
        *_both(f"{ours}.affine", f"{theirs}.conv.modulation"),
        Pair(f"{ours}.noise_strength", f"{theirs}.noise.weight", SCALAR),
        Pair(f"{ours}.bias", f"{theirs}.activate.bias"),
    ]


def _rgb(ours: str, theirs: str) -> list[Pair]:
    weight = Pair(f"{ours}.weight", f"{theirs}.conv.weight", FIRST)
    bias = Pair(f"{ours}.bias", f"{theirs}.bias", PER_CHANNEL)
    return [weight, bias, *_both(f"{ours}.affine", f"{theirs}.conv.modulation")]


def mean_w(network: Any) -> Tensor:
    """[W], over fixed draws of z."""
    mean: Tensor = network.style_samples(MEAN_SAMPLES).mean(0)
    return mean


def _drawn(name: str, network: Any) -> Tensor:
    like: Tensor = network.state_dict()[name]
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(len(name) + like.numel()))
