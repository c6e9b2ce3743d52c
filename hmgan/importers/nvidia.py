"""Network pickles of stylegan2-ada-pytorch and stylegan3, and of the forks that keep their envelope.

A network is a tree of layers, each with its attributes, parameters, buffers and sublayers. The architecture is read
from them, never from defaults.
"""

from __future__ import annotations

from typing import Any

from hmgan.importers import stylegan2_judges, stylegan2_layers, stylegan3_layers
from hmgan.importers.foreign import Checkpoint, File, NetworkPlan, check_resolution, code_notes
from hmgan.importers.import_report import LeftOut
from hmgan.importers.pickled.content import PERSISTENT, Content
from hmgan.importers.pickled.nodes import Call, UnreadableError
from hmgan.importers.tree import Network, flatten

GENERATORS = ("G_ema", "G")
DISCRIMINATOR = "D"
JUDGED = "b4.conv.weight"
NO_DISCRIMINATOR = "no discriminator of StyleGAN2 in the file; training will begin with a new one"


def holds(content: Content) -> bool:
    """Whether a file holds a network of this envelope, alone or in a dictionary."""
    parts = content.mapping(content.root)
    nodes = [content.root] if parts is None else [parts.get(key) for key in (*GENERATORS, DISCRIMINATOR)]
    return any(isinstance(node, Call) and node.function == PERSISTENT for node in nodes)


def read(file: File, resolution: int | None, stddev_group: int | None) -> Checkpoint:
    """The averaged generator, or the raw one where that is all there is, and the discriminator."""
    parts = file.content.mapping(file.content.root)
    parts = {"G_ema": file.content.root} if parts is None else parts
    chosen = next((key for key in GENERATORS if isinstance(parts.get(key), Call)), None)
    if chosen is None:
        raise UnreadableError("has a discriminator and no generator")
    network = flatten(file.content, parts[chosen], chosen)
    plans = [_generator(file, network)]
    notes = [f"architecture read from the attributes and shapes of {chosen}", *_unknown(file)]
    notes += code_notes(chosen, network.sources())
    judge = _judge(file, parts.get(DISCRIMINATOR))
    if judge is None:
        notes.append(NO_DISCRIMINATOR)
    else:
        notes += code_notes(DISCRIMINATOR, judge.sources())
        plans.append(stylegan2_judges.discriminator(file, judge, stddev_group, plans[0].options))
    used = {chosen, *(plan.theirs.label for plan in plans)}
    rest = [_left_out(file.content, str(key), node) for key, node in parts.items() if key not in used]
    height, width = plans[0].options.get("height"), plans[0].options.get("width")
    pixels = plans[0].options["resolution"]
    size = f"{width or pixels} x {height or pixels} px" if height or width else f"{pixels} px"
    check_resolution(file.where, resolution, pixels)
    return Checkpoint(plans, size, chosen, tuple(notes), [entry for entries in rest for entry in entries])


def _generator(file: File, network: Network) -> NetworkPlan:
    if "synthesis.input" in network.layers:
        return stylegan3_layers.generator(file, network)
    return stylegan2_layers.generator(file, network)


def _judge(file: File, node: Any) -> Network | None:
    """The discriminator, if it is StyleGAN2's: others are left out, and harm no generator."""
    try:
        network = flatten(file.content, node, DISCRIMINATOR) if isinstance(node, Call) else None
    except UnreadableError:
        return None
    return network if network is not None and JUDGED in network.views else None


def _unknown(file: File) -> list[str]:
    """A note on what the file would have imported and nothing here knows."""
    names = ", ".join(map(str, file.content.unknown[:6]))
    return [f"left out unread, for their classes are not known: {names}"] if names else []


def _left_out(content: Content, label: str, node: Any) -> list[LeftOut]:
    """Each tensor of a network that is not used, or the part as one where it is none that we can read."""
    reason = "raw weights; the averaged ones are used" if label == "G" else "no part of a source"
    try:
        names = list(flatten(content, node, label).views) if isinstance(node, Call) else []
    except UnreadableError:
        names = []
    group = "raw generator" if label == "G" else label
    return [LeftOut(group, f"{label}/{name}", reason) for name in names] or [LeftOut(group, label, reason)]
