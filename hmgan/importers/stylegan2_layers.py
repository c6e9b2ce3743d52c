"""StyleGAN2's networks as stylegan2-ada-pytorch and stylegan3 pickle them, square or not. Ours have their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hmgan.importers.foreign import File, ForeignNetwork, NetworkPlan, New, Pair, no_reason
from hmgan.importers.pickled.nodes import UnreadableError
from hmgan.importers.tree import Network

FILTER = re.compile(r"(.*\.)?resample_filter")
BINOMIAL = (0.125, 0.375, 0.375, 0.125)
ACTIVATIONS = ("", "lrelu", "linear")
MAPPING_RATE = 0.01
CONST = "synthesis.b4.const"


def generator(file: File, network: Network) -> NetworkPlan:
    """Its options from attributes and shapes, its tensors by their own names.

    Raises: UnreadableError for a variant that computes something else; UserError for a tensor that is none.
    """
    theirs = file.network(network.label, weights(network.views))
    options = generator_options(theirs, taps(network))
    layers = [path for path in network.layers if re.fullmatch(r"synthesis\.b\d+\.(conv\d|torgb)", path)]
    options |= clamp_of(network, layers) | mapping_rate(network)
    check_activations(network)
    names = [name for name in theirs.tensors if not unused(network, name)]
    new = quiet(theirs, layers) if not any(name.endswith("noise_strength") for name in names) else {}
    pairs = [Pair(name, name) for name in names]
    return NetworkPlan("generator", theirs, options, pairs, partial(reason, network, theirs), "stylegan2", new)


def weights(views: Mapping[str, Any]) -> dict[str, Any]:
    """Without the filters, which are read as taps."""
    return {name: view for name, view in views.items() if not FILTER.fullmatch(name)}


def generator_options(
    theirs: ForeignNetwork, filter_n: list[float] | None = None, *, joined: bool = False
) -> dict[str, Any]:
    """Options of our backbone, from the shapes of tensors under our names; `joined`: labels join z unnormalised."""
    pixels = theirs.indices(r"synthesis\.b(\d{1,4})\.conv1\.weight")
    if not pixels or pixels != [4 << i for i in range(len(pixels))]:
        got = ", ".join(map(str, pixels)) or "none"
        raise theirs.refused("synthesis", f"have blocks b4, b8, ... without a gap, got {got}")
    _, *sides = theirs.shape(CONST, 3)
    last, z_inputs = pixels[-1], theirs.shape("mapping.fc0.weight", 2)[1]
    w_dim = theirs.shape("mapping.fc0.weight", 2)[0]
    embedded = "mapping.embed.weight" in theirs.tensors and (joined or z_inputs > w_dim)
    label_width = 0 if not embedded else theirs.shape("mapping.embed.weight", 2)[0] if joined else w_dim
    skip, residual = "synthesis.b4.torgb.weight" in theirs.tensors, "synthesis.b8.skip.weight" in theirs.tensors
    options: dict[str, Any] = {
        "resolution": last,
        "z_dim": z_inputs - label_width,
        "w_dim": w_dim,
        "mapping_layers": len(theirs.indices(r"mapping\.fc(\d{1,2})\.weight")),
        "channels": [theirs.shape(f"synthesis.b{r}.conv1.weight", 4)[0] for r in pixels],
        "architecture": "skip" if skip else "resnet" if residual else "orig",
        "channels_out": theirs.shape(f"synthesis.b{last}.torgb.weight", 4)[0],
        "label_dim": theirs.shape("mapping.embed.weight", 2)[1] if embedded else 0,
    }
    options |= {name: side * last // 4 for name, side in zip(("height", "width"), sides, strict=True) if side != 4}
    options |= {"label_joins_z": True} if joined else {}
    return options | ({} if filter_n is None else {"filter": filter_n})


def unused(network: Network, name: str) -> bool:
    """Whether a tensor takes no part: what embeds labels, in a network without any."""
    return name.startswith("mapping.embed") and not network.number("", "c_dim", 0)


def reason(network: Network, theirs: ForeignNetwork, name: str) -> str:
    """Why a tensor is left out. Raises UserError where it should not be."""
    if unused(network, name):
        return "embeds labels, and the network has none"
    return no_reason(theirs, name)


def quiet(theirs: ForeignNetwork, layers: list[str]) -> dict[str, New]:
    """Noise of strength 0, for networks that were trained without any."""
    new = {}
    for path in (path for path in layers if "conv" in path):
        new[f"{path}.noise_strength"] = New(partial(tensor_of, f"{path}.noise_strength"), "no noise in the file")
        new[f"{path}.noise_const"] = New(partial(tensor_of, f"{path}.noise_const"), "no noise in the file")
    return new


def tensor_of(name: str, network: Any) -> Tensor:
    """Zeros in the shape of a network's tensor."""
    return torch.zeros_like(network.state_dict()[name])


def taps(network: Network) -> list[float] | None:
    """The filter between resolutions, where it is another than 1, 3, 3, 1. Raises UnreadableError for several."""
    names = [name for name in network.views if FILTER.fullmatch(name)]
    found = {tuple(round(sum(row), 6) for row in network.kernel(name)) for name in names}
    if len(found) > 1:
        raise UnreadableError(f"filters in {len(found)} ways in {network.label}, where one is known")
    kernel = next(iter(found), BINOMIAL)
    if names:
        rows = torch.tensor(network.kernel(names[0]))
        outer = torch.outer(torch.tensor(kernel), rows.sum(0)) if rows.shape[0] == rows.shape[1] else rows
        if rows.shape != outer.shape or not torch.allclose(rows, outer, atol=1e-5):
            raise UnreadableError(f"filters {network.label} by a kernel that is no outer product")
    return None if kernel == BINOMIAL else list(kernel)


def clamp_of(network: Network, layers: list[str]) -> dict[str, float]:
    """What no activation exceeds, where all layers say the same. Raises UnreadableError where they do not."""
    found = {network.number(path, "conv_clamp", 0.0) for path in layers}
    if len(found) > 1:
        raise UnreadableError(f"clamps the layers of {network.label} differently")
    limit = float(next(iter(found)) or 0.0) if found else 0.0
    return {"clamp": limit} if limit else {}


def mapping_rate(network: Network) -> dict[str, float]:
    """The mapping's learning rate, relative to that of all other layers."""
    rate = float(network.number("mapping.fc0", "bias_gain", MAPPING_RATE) or MAPPING_RATE)
    return {} if abs(rate - MAPPING_RATE) < 1e-9 else {"mapping_lr_mult": rate}


def check_activations(network: Network) -> None:
    """Raises UnreadableError for a layer with an activation of another kind."""
    for path in network.layers:
        if network.text(path, "activation") not in ACTIVATIONS:
            raise UnreadableError(f"activates {network.label}/{path} by {network.text(path, 'activation')[:20]!r}")
