"""TensorFlow network pickles: StyleGAN2's and ADA's (versions 4 and 5), and StyleGAN's (version 3), as far as names go.

A network is its variables by name, and networks within it. Convolutions are stored HWIO, dense layers transposed; those
of StyleGAN2 that double the resolution are stored flipped, and a style's bias without its 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from math import sqrt
from typing import Any

from hmgan.importers import stylegan1_tf
from hmgan.importers.foreign import (
    NO_DISCRIMINATOR,
    Checkpoint,
    File,
    ForeignNetwork,
    Layout,
    NetworkPlan,
    New,
    Pair,
    check_resolution,
    code_notes,
    no_reason,
)
from hmgan.importers.import_report import LeftOut
from hmgan.importers.layouts import DENSE, FIRST, FLIPPED, HWIO, MAP, mean_row, plain_layer
from hmgan.importers.pickled.content import TFLIB, Content
from hmgan.importers.pickled.nodes import Call, UnreadableError, described
from hmgan.importers.stylegan2_judges import SIDES, plan_judge
from hmgan.importers.stylegan2_layers import generator_options, tensor_of

MOST_NETWORKS = 16
LABEL_CONCAT = "mapping/LabelConcat/weight"
EMBED, NO_BIAS = "mapping.embed.bias", "labels join z without a bias"


def holds(content: Content) -> bool:
    """Whether a file holds a network of TensorFlow's, alone or in a list."""
    return bool(_networks(content))


def _networks(content: Content) -> list[Call]:
    nodes = content.root if type(content.root) in (tuple, list) else [content.root]
    return [node for node in nodes if isinstance(node, Call) and node.function == TFLIB]


def read(file: File, resolution: int | None, stddev_group: int | None) -> Checkpoint:
    """The averaged generator, which is the last of three, or the only one, and the discriminator before it."""
    networks = _networks(file.content)
    labels = ("G", "D", "Gs")[: len(networks)] if len(networks) > 1 else ("Gs",)
    variables = {label: variables_of(file, label, node) for label, node in zip(labels, networks, strict=False)}
    chosen = "Gs" if "Gs" in variables else "G"
    theirs = file.network(chosen, variables[chosen])
    node = networks[labels.index(chosen)]
    notes = [f"architecture read from the shapes and static_kwargs of {chosen}"]
    notes += code_notes(chosen, [file.content.text(_state(file.content, node).get("build_module_src"))])
    unused = [
        LeftOut(k, f"{k}/{n}", "raw weights; Gs is used") for k in variables if k == "G" != chosen for n in variables[k]
    ]
    judge = file.network("D", variables["D"]) if "D" in variables else None
    said = file.content.number(_static(file, networks[1]).get("mbstd_group_size")) if judge is not None else None
    group = int(said or 4) if stddev_group is None else stddev_group
    if any("/StyleMod/" in name for name in theirs.tensors):
        plans, more = stylegan1_tf.plans(theirs, judge, group, resolution)
        return Checkpoint(plans, f"{plans[0].options['resolution']} px", chosen, (*notes, *more), unused)
    plan = plan_generator(theirs, _options(file, _static(file, node)))
    plans, size = [plan], plan.options["resolution"]
    check_resolution(file.where, resolution, size)
    if judge is None:
        notes.append(NO_DISCRIMINATOR)
    else:
        plans.append(plan_discriminator(judge, group, plan.options))
    return Checkpoint(plans, f"{size} px", chosen, tuple(notes), unused)


def _state(content: Content, node: Call) -> dict[Any, Any]:
    state = content.mapping(node.state)
    if state is None:
        raise UnreadableError("holds a TensorFlow network without its variables")
    return state


def _static(file: File, node: Call) -> dict[Any, Any]:
    return file.content.mapping(_state(file.content, node).get("static_kwargs")) or {}


def variables_of(file: File, label: str, node: Call) -> dict[str, Any]:
    """All variables of a network and of those within it, by their paths. Raises UnreadableError for unknown parts."""
    found: dict[str, Any] = {}
    left: list[tuple[str, Any]] = [("", node)]
    for seen in range(MOST_NETWORKS + 1):
        if not left:
            return found
        prefix, part = left.pop()
        if not isinstance(part, Call) or part.function != TFLIB or seen == MOST_NETWORKS:
            raise UnreadableError(f"makes {label}/{prefix} by {described(part)}, which is not known; nothing was run")
        state = _state(file.content, part)
        variables = state.get("variables")
        for pair in variables if type(variables) is list else []:
            if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) is not str:
                raise UnreadableError(f"lists variables of {label} in an unknown form")
            view = file.content.view(pair[1])
            if view is not None and view.shape:
                found[prefix + pair[0]] = view
            elif view is None and file.content.number(pair[1]) is None:
                raise file.content.unknown_at(f"{label}/{prefix}{pair[0]}", pair[1])
            elif view is not None and pair[0] != "lod":
                found[prefix + pair[0]] = view
        components = file.content.mapping(state.get("components")) or {}
        left += [(f"{prefix}{name}/", part) for name, part in components.items()]
    raise UnreadableError(f"nests more networks than {MOST_NETWORKS}")


def _options(file: File, static: Mapping[Any, Any]) -> dict[str, Any]:
    """Options that no shape shows."""
    options: dict[str, Any] = {}
    if clamp := file.content.number(static.get("conv_clamp")):
        options["clamp"] = float(clamp)
    rate = file.content.number(static.get("mapping_lrmul"))
    if rate is not None and abs(rate - 0.01) > 1e-9:
        options["mapping_lr_mult"] = float(rate)
    taps = [float(tap) for tap in file.content.numbers(static.get("resample_kernel"))]
    if taps and taps != [1.0, 3.0, 3.0, 1.0]:
        options["filter"] = taps
    return options


def plan_generator(theirs: ForeignNetwork, more: Mapping[str, Any]) -> NetworkPlan:
    """The generator."""
    joined = LABEL_CONCAT in theirs.tensors
    pairs = [*_mapping(theirs, "mapping/Dense", "mapping/"), Pair("mapping.w_avg", "dlatent_avg")]
    blocks = _blocks(theirs, r"synthesis/(\d+)x(\d+)/Conv1?/weight")
    for i, block in enumerate(blocks):
        ours, folder = f"synthesis.b{4 << i}", f"synthesis/{block}"
        if i == 0:
            pairs += [Pair(f"{ours}.const", f"{folder}/Const/const", FIRST)]
            pairs += _layer(f"{ours}.conv1", f"{folder}/Conv", "synthesis/noise0", HWIO)
        else:
            pairs += _layer(f"{ours}.conv0", f"{folder}/Conv0_up", f"synthesis/noise{2 * i - 1}", FLIPPED)
            pairs += _layer(f"{ours}.conv1", f"{folder}/Conv1", f"synthesis/noise{2 * i}", HWIO)
        pairs += _rgb(theirs, f"{ours}.torgb", folder, len(blocks) - 1 - i)
        if f"{folder}/Skip/weight" in theirs.tensors:
            pairs.append(Pair(f"{ours}.skip.weight", f"{folder}/Skip/weight", FLIPPED))
    if joined:
        labels = theirs.shape(LABEL_CONCAT, 2)[0]
        # Our embedding is equalised, the file's is not.
        pairs.append(Pair("mapping.embed.weight", LABEL_CONCAT, DENSE, sqrt(labels)))
    named = {pair.ours: theirs.changed(pair) for pair in pairs}
    options = {**generator_options(ForeignNetwork(theirs.where, theirs.label, named), joined=joined), **more}
    new = {EMBED: New(partial(tensor_of, EMBED), NO_BIAS)} if joined else {}
    return NetworkPlan("generator", theirs, options, pairs, partial(_reason, theirs), "stylegan2", new)


def plan_discriminator(theirs: ForeignNetwork, group: int, generator: Mapping[str, Any]) -> NetworkPlan:
    """The discriminator."""
    pairs = _mapping(theirs, "Mapping", "")
    blocks = _blocks(theirs, r"(\d+)x(\d+)/(?:Conv0|Conv)/weight")
    for i, block in enumerate(blocks):
        ours, lod = f"b{4 << i}", len(blocks) - 1 - i
        inputs = f"{block}/FromRGB" if f"{block}/FromRGB/weight" in theirs.tensors else f"FromRGB_lod{lod}"
        if f"{inputs}/weight" in theirs.tensors and (lod == 0 or not inputs.startswith("FromRGB")):
            pairs += plain_layer(f"{ours}.fromrgb", inputs, HWIO)
        if i == 0:
            pairs += [*plain_layer("b4.conv", f"{block}/Conv", HWIO), *plain_layer("b4.fc", f"{block}/Dense0", DENSE)]
            continue
        pairs += [
            *plain_layer(f"{ours}.conv0", f"{block}/Conv0", HWIO),
            *plain_layer(f"{ours}.conv1", f"{block}/Conv1_down", HWIO),
        ]
        if f"{block}/Skip/weight" in theirs.tensors:
            pairs.append(Pair(f"{ours}.skip.weight", f"{block}/Skip/weight", HWIO))
    classes = theirs.shape("Output/weight", 2)[1]
    if classes > 1 and "Mapping/LabelEmbed/weight" not in theirs.tensors and "LabelEmbed/weight" not in theirs.tensors:
        pairs.append(Pair("b4.out.weight", "Output/weight", mean_row(classes)))
        pairs.append(Pair("b4.out.bias", "Output/bias", mean_row(classes)))
    else:
        pairs += plain_layer("b4.out", "Output", DENSE)
    sides = {side: generator[side] for side in SIDES if side in generator}
    more: dict[str, Any] = {name: generator[name] for name in ("clamp", "filter") if name in generator}
    return plan_judge(theirs, pairs, group, partial(_reason, theirs), sides, more)


def _blocks(theirs: ForeignNetwork, pattern: str) -> list[str]:
    """Names of blocks, the smallest first: 4x4, 8x8, ..., or 4x2, 8x4, ..."""
    found = {match[1]: f"{match[1]}x{match[2]}" for name in theirs.tensors if (match := re.fullmatch(pattern, name))}
    return [found[height] for height in sorted(found, key=int)]


def _mapping(theirs: ForeignNetwork, dense: str, prefix: str) -> list[Pair]:
    pairs = []
    if f"{prefix}LabelEmbed/weight" in theirs.tensors:
        pairs += plain_layer("mapping.embed", f"{prefix}LabelEmbed", DENSE)
    for i in theirs.indices(rf"{dense}(\d{{1,2}})/weight"):
        pairs += plain_layer(f"mapping.fc{i}", f"{dense}{i}", DENSE)
    return pairs


def _styled(ours: str, theirs: str, layout: Layout) -> list[Pair]:
    affine = Pair(f"{ours}.affine.weight", f"{theirs}/mod_weight", DENSE)
    return [*plain_layer(ours, theirs, layout), affine, Pair(f"{ours}.affine.bias", f"{theirs}/mod_bias", add=1.0)]


def _layer(ours: str, theirs: str, noise: str, layout: Layout) -> list[Pair]:
    strength = Pair(f"{ours}.noise_strength", f"{theirs}/noise_strength")
    return [*_styled(ours, theirs, layout), strength, Pair(f"{ours}.noise_const", noise, MAP)]


def _rgb(theirs: ForeignNetwork, ours: str, folder: str, lod: int) -> list[Pair]:
    """To-RGB of a block; of progressive networks, the last one's only."""
    if f"{folder}/ToRGB/weight" in theirs.tensors:
        return _styled(ours, f"{folder}/ToRGB", HWIO)
    return [] if lod else _styled(ours, "synthesis/ToRGB_lod0", HWIO)


def _reason(theirs: ForeignNetwork, name: str) -> str:
    if re.fullmatch(r"(synthesis/)?(ToRGB|FromRGB)_lod\d+/.*", name):
        return "of a lower resolution while the network grew"
    if name in ("lod", "synthesis/lod", "dlatent_avg"):
        return "a state of training"
    return no_reason(theirs, name)
