"""Checkpoints of Hyper-Modulation's released code: a StyleGAN1 of the port whose convolutions are normalised buffers.

A kernel is (gamma W + beta) times the layer's gain, gamma and beta from one linear layer in turn, as ours. From 128 px
up the released code fuses a kernel before it modulates it; the backbone's `fused_first` is that order. Its sixteen taps
are not of unit deviation, as ours are normalised, so that gamma's weights take up their deviation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from hmgan.backbones.stylegan1 import FUSED, FUSED_FROM_PIXELS, up_gain
from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.importers.foreign import Checkpoint, Conditional, File, ForeignNetwork, Layout, NetworkPlan, Pair
from hmgan.importers.import_report import LeftOut
from hmgan.importers.pickled.content import Content
from hmgan.importers.stylegan1_port import plan_generator
from hmgan.layers.edits import kernel_statistics

GENERATORS, CLASS_NETS = ("g_running", "generator"), ("t_running_g", "task_g", "task")
HEADS, BIAS_HEADS = "task.linear", "task_bias_beta.linear"
MARK = re.compile(r"(module\.)?generator\.progression\.\d\.conv2\.task\.linear\.weight_orig")
RENAMED = {
    r"(.*conv2)\.W": r"\1.conv.weight_orig",
    r"(.*conv2)\.b": r"\1.conv.bias",
    r"(.*conv1\.1)\.W": r"\1.conv.weight_orig",
    r"(.*conv1\.1)\.b": r"\1.conv.bias",
    r"(.*conv1\.0)\.W": r"\1.weight",
    r"(.*conv1\.0)\.b": r"\1.bias",
    r"(.*conv1)\.0\.input": r"\1.input",
}


def holds(content: Content) -> bool:
    """Whether a file holds a generator with heads."""
    root = content.mapping(content.root) or {}
    states = (content.mapping(root.get(key)) or {} for key in GENERATORS)
    return any(MARK.fullmatch(str(name)) for state in states for name in state)


def read(file: File, resolution: int | None, stddev_group: int | None) -> Checkpoint:
    """The generator with its heads, and the class net: averaged ones, where the file has them."""
    root = file.content.mapping(file.content.root) or {}
    states = {str(key): state for key, node in root.items() if (state := file.content.mapping(node)) is not None}
    chosen = next(key for key in GENERATORS if any(MARK.fullmatch(str(name)) for name in states.get(key, {})))
    labels = next((key for key in CLASS_NETS if key in states), None)
    if labels is None:
        raise UserError(f"{file.where} should hold a class net, got {', '.join(states)}; give the checkpoint whole")
    theirs = file.network(chosen, file.views(chosen, states[chosen]))
    classes = file.network(labels, file.views(labels, states[labels]))
    size = resolution or trained_size(theirs)
    plan = plan_source(theirs, size)
    used = {chosen, labels}
    notes = [f"architecture read from the shapes of {chosen} and {labels}"]
    if plan.options.get("fused_first"):
        notes.append("kernels are fused before they are modulated, as the released code does: fused_first")
    reasons = {"generator": "raw weights; g_running is used", "task_g": "raw weights; t_running_g is used"}
    unused: list[LeftOut] = []
    for key, node in root.items():
        if key not in used:
            reason = reasons.get(str(key), "a conditional generator is kept without it")
            unused += file.left_out(str(key), node, reason)
    conditional = plan_conditional(theirs, classes, size)
    return Checkpoint([plan], f"{size} px", chosen, tuple(notes), unused, conditional)


def trained_size(theirs: ForeignNetwork) -> int:
    """The highest resolution whose to-RGB bias has left 0, where it starts; the highest of all where none has."""
    known = theirs.indices(r"generator\.to_rgb\.([0-8])\.conv\.bias")
    trained = [i for i in known if bool(theirs.get(f"generator.to_rgb.{i}.conv.bias").any())]
    if not known:
        raise theirs.refused("generator.to_rgb", "be in the file, got nothing")
    return 4 << (trained or known)[-1]


def plan_source(theirs: ForeignNetwork, size: int) -> NetworkPlan:
    """The source below the heads: the port's generator, but for normalised kernels."""
    names = {renamed(name): name for name in theirs.tensors}
    port = theirs._replace(tensors={new: theirs.tensors[name] for new, name in names.items()})
    plan = plan_generator(port, size)
    pairs = [pair._replace(theirs=names.get(pair.theirs, pair.theirs)) for pair in plan.pairs]
    fused = size >= FUSED_FROM_PIXELS
    if fused:
        pairs = [pair._replace(layout=FUSE) if fused_weight(pair) else pair for pair in pairs]
        plan.options["fused_first"] = True
    return NetworkPlan("generator", theirs, plan.options, pairs, partial(_reason, plan))


def renamed(name: str) -> str:
    """A tensor's name in the port."""
    for pattern, new in RENAMED.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    return name


def fused_weight(pair: Pair) -> bool:
    """Whether a kernel is one that is fused."""
    block = re.fullmatch(r"blocks\.(\d)\.conv1\.weight", pair.ours)
    return block is not None and up_gain(int(block[1])) == FUSED


def _reason(plan: NetworkPlan, name: str) -> str:
    return "a head above the resolution" if ".task" in name else plan.reason(renamed(name))


def fuse(kernel: Tensor) -> Tensor:
    """[I, O, 3, 3] -> [O, I, 4, 4], the mean of the four one-pixel shifts."""
    wide = F.pad(kernel, [1, 1, 1, 1])
    return ((wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]) / 4).transpose(0, 1)


FUSE = Layout("transposed, shifts averaged", lambda o: (o[1], o[0], 3, 3), fuse)


def plan_conditional(theirs: ForeignNetwork, labels: ForeignNetwork, size: int) -> Conditional:
    """The class net and the heads of every site up to `size` pixels, in the order of sites."""
    classes, dim = labels.shape("task.0.weight_orig", 2)
    depth = labels.indices(r"task\.(\d{1,2})\.linear\.weight_orig")
    if depth != [2 * i + 1 for i in range(len(depth))]:
        raise labels.refused("task", f"count its layers without a gap, got {depth}")
    embedding = "class_net.embedding.weight" if depth else "class_net.weight"
    pairs = [(labels, Pair(embedding, "task.0.weight_orig"))]
    for i in depth:
        ours, linear = f"class_net.layers.{i - 1}", f"task.{i}.linear"
        pairs.append((labels, Pair(f"{ours}.weight", f"{linear}.weight_orig")))
        pairs.append((labels, Pair(f"{ours}.bias", f"{linear}.bias")))
    for site, module in enumerate(_sites(theirs, size)):
        pairs += [(theirs, pair) for pair in _heads(theirs, f"modulation.heads.{site}", module)]
    options: dict[str, Any] = {"dim": dim, "layers": len(depth)} if depth else {"dim": dim}
    class_net = Choice(name="mlp" if depth else "embedding", **options)
    # Their normalised kernels have a deviation of exactly 1.
    return Conditional(class_net, Choice(name="adafm", init="random", epsilon=0.0), classes, pairs)


def _sites(theirs: ForeignNetwork, size: int) -> Iterator[str]:
    for block in range((size // 4).bit_length()):
        folder = f"generator.progression.{block}"
        if block:
            yield f"{folder}.conv1.{0 if f'{folder}.conv1.0.W' in theirs.tensors else 1}"
        yield f"{folder}.conv2"


def _heads(theirs: ForeignNetwork, ours: str, module: str) -> list[Pair]:
    """Gamma and beta, whose rows take turns, and the bias."""
    kernel = theirs.get(f"{module}.W")
    fused = module.endswith("conv1.0")
    inputs, outputs = (kernel.shape[0], kernel.shape[1]) if fused else (kernel.shape[1], kernel.shape[0])
    pairs = []
    for turn, table in enumerate(("scale", "shift")):
        spread = kernel_statistics(fuse(kernel))[1].flatten() if fused and table == "scale" else None
        rows = partial(_rows, turn, (inputs, outputs) if fused else None, spread)
        layout = Layout(f"rows of {table}", lambda o: (2 * o[0], *o[1:]), rows)
        pairs.append(Pair(f"{ours}.{table}.weight", f"{module}.{HEADS}.weight_orig", layout))
        pairs.append(Pair(f"{ours}.{table}.bias", f"{module}.{HEADS}.bias", layout))
    pairs.append(Pair(f"{ours}.bias.weight", f"{module}.{BIAS_HEADS}.weight_orig"))
    pairs.append(Pair(f"{ours}.bias.bias", f"{module}.{BIAS_HEADS}.bias"))
    return pairs


def _rows(turn: int, transposed: tuple[int, int] | None, spread: Tensor | None, both: Tensor) -> Tensor:
    """Every second row of a head; of a transposed kernel's, by outputs; times the kernel's deviation."""
    rows = both[turn::2]
    if transposed is not None:
        rows = rows.unflatten(0, transposed).transpose(0, 1).flatten(0, 1)
    return rows if spread is None else rows * spread.view(-1, *[1] * (rows.dim() - 1))
