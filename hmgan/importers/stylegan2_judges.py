"""StyleGAN2's discriminator, whose tensors ours has under the release's names; ours makes its own head of the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hmgan.importers.foreign import File, ForeignNetwork, NetworkPlan, Pair, no_reason
from hmgan.importers.pickled.nodes import UnreadableError
from hmgan.importers.stylegan2_layers import check_activations, clamp_of, taps, weights
from hmgan.importers.tree import Network

OUT = ("b4.out.weight", "b4.out.bias")
SIDES = ("height", "width")


def discriminator(file: File, network: Network, group: int | None, generator: Mapping[str, Any]) -> NetworkPlan:
    """Its options from attributes and shapes, its tensors by their own names.

    Args:
        group: samples of the deviation; the file's own where None.
        generator: the generator's options, which say how high and wide an image is.

    Raises: UnreadableError for a variant that computes something else; UserError for a tensor that is none.
    """
    theirs = file.network(network.label, weights(network.views))
    check_activations(network)
    clamp = clamp_of(network, [path for path in network.layers if path.startswith("b") and path.count(".") == 1])
    if (channels := network.number("b4.mbstd", "num_channels", 1)) != 1:
        raise UnreadableError(f"has {channels} channels of minibatch deviation in {network.label}, where 1 is known")
    group = group if group is not None else int(network.number("b4.mbstd", "group_size", 0) or 0)
    filter_n = taps(network)
    more = {**clamp, **({} if filter_n is None else {"filter": filter_n})}
    pairs = [Pair(name, name) for name in theirs.tensors]
    return plan_judge(theirs, pairs, group, partial(no_reason, theirs), generator, more)


def plan_judge(
    theirs: ForeignNetwork,
    pairs: list[Pair],
    group: int,
    reason: Callable[[str], str],
    generator: Mapping[str, Any],
    more: Mapping[str, Any],
) -> NetworkPlan:
    """The plan of a discriminator whose tensors have found their names under the release's."""
    named = {pair.ours: tuple(theirs.changed(pair).shape) for pair in pairs}
    pixels = sorted(int(name.split(".")[0][1:]) for name in named if name.endswith(".conv0.weight"))
    if not pixels or pixels != [8 << i for i in range(len(pixels))]:
        raise theirs.refused("b8, b16, ...", f"be blocks without a gap, got {pixels}")
    inputs = [name for name in named if name.endswith(".fromrgb.weight")]
    wanted = (f"b{pixels[-1]}.fromrgb.weight", "b4.conv.weight", *(f"b{r}.conv0.weight" for r in pixels), *OUT)
    for name in wanted:
        if name not in named or not named[name] or 0 in named[name]:
            raise theirs.refused(name, "be in the file, got nothing")
    options = {
        "resolution": pixels[-1],
        **{side: generator[side] for side in SIDES if side in generator},
        "channels": [named["b4.conv.weight"][0], *(named[f"b{r}.conv0.weight"][0] for r in pixels)],
        "architecture": "resnet" if "b8.skip.weight" in named else "skip" if len(inputs) > 1 else "orig",
        "stddev_group": group,
        "channels_in": named[wanted[0]][1],
        **more,
    }
    head = frozenset(name for name in named if name in OUT or name.startswith("mapping."))
    return NetworkPlan("discriminator", theirs, options, pairs, reason, "stylegan2", head=head)
