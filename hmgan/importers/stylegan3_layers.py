"""StyleGAN3's generator as stylegan3 and StyleGAN-XL pickle it: the layers one by one, as the file says they act."""

from __future__ import annotations

from functools import partial
from typing import Any

from hmgan.importers.foreign import File, NetworkPlan, Pair
from hmgan.importers.pickled.nodes import UnreadableError
from hmgan.importers.stylegan2_layers import mapping_rate, reason, unused
from hmgan.importers.tree import Network

INPUT = "synthesis.input"


def generator(file: File, network: Network) -> NetworkPlan:
    """Its layers from their attributes, its tensors by their own names.

    Raises: UnreadableError for a layer that does not say how it acts; UserError for a tensor that is none.
    """
    theirs = file.network(network.label, network.views)
    z_inputs, w_dim = theirs.shape("mapping.fc0.weight", 2)[1], theirs.shape("mapping.fc0.weight", 2)[0]
    label_dim = int(network.number("", "c_dim", 0) or 0)
    layers = [_input(network), *(_layer(network, path) for path in _ordered(network))]
    options: dict[str, Any] = {
        "resolution": max(layers[-1]["out_size"]),
        "z_dim": z_inputs - w_dim if label_dim else z_inputs,
        "w_dim": w_dim,
        "mapping_layers": len(theirs.indices(r"mapping\.fc(\d{1,2})\.weight")),
        **mapping_rate(network),
        "layers": layers,
        "label_dim": label_dim,
        "output_scale": float(network.number("synthesis", "output_scale", 0.25) or 0.0),
    }
    pairs = [Pair(name, name) for name in theirs.tensors if not unused(network, name)]
    return NetworkPlan("generator", theirs, options, pairs, partial(reason, network, theirs), "stylegan3")


def _ordered(network: Network) -> list[str]:
    """The layers in the order in which they act."""
    listed = network.layers["synthesis"].state.get("layer_names")
    names = [f"synthesis.{name}" for name in listed if type(name) is str] if type(listed) is list else []
    names = names or [path for path in network.layers if path.startswith("synthesis.L") and path.count(".") == 1]
    if not names or any(path not in network.layers for path in names):
        raise UnreadableError(f"lists layers of {network.label} that are not there")
    return names


def _input(network: Network) -> dict[str, Any]:
    size = _integers(network, INPUT, "size", 2)
    channels, rate, bandwidth = (_number(network, INPUT, key) for key in ("channels", "sampling_rate", "bandwidth"))
    fields = {"channels": int(channels), "size": size, "sampling_rate": rate, "bandwidth": bandwidth}
    return {**fields, "name": "input"}


def _layer(network: Network, path: str) -> dict[str, Any]:
    counts = ("in_channels", "out_channels", "conv_kernel", "up_factor", "down_factor")
    inputs, outputs, kernel, up, down = (int(_number(network, path, key)) for key in counts)
    clamp = network.number(path, "conv_clamp")
    filters = {key: network.views.get(f"{path}.{key}") for key in ("up_filter", "down_filter")}
    return {
        "name": path.removeprefix("synthesis."),
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel": kernel,
        "up": up,
        "down": down,
        "padding": _integers(network, path, "padding", 4),
        **{key: None if view is None else list(view.shape) for key, view in filters.items()},
        "out_size": _integers(network, path, "out_size", 2),
        "torgb": bool(network.number(path, "is_torgb", False)),
        "clamp": None if clamp is None else float(clamp),
    }


def _number(network: Network, path: str, name: str) -> int | float:
    found = network.number(path, name)
    if found is None or not 0 <= found < 1e6:
        raise UnreadableError(f"does not say {name} of {network.label}/{path}")
    return found


def _integers(network: Network, path: str, name: str, count: int) -> list[int]:
    """A list of whole numbers; one number stands for all of it."""
    found = network.numbers(path, name)
    found = found * count if len(found) == 1 else found
    if len(found) != count or any(value != value or abs(value) > 1e6 or value != int(value) for value in found):
        raise UnreadableError(f"does not say {name} of {network.label}/{path}")
    return [int(value) for value in found]
