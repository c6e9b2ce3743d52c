"""Writers of foreign files, for tests: each reproduces a format's envelope around tensors of ours, no code of theirs.

Python's own pickler writes them, of stand-in objects that say they are of the formats' modules.
"""

from __future__ import annotations

import io
import math
import pickle
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import torch

from hmgan import components

SOURCE = "the module's whole source text; " * 40
SMALL = {"resolution": 16, "channels": [6, 5, 4], "z_dim": 8, "w_dim": 8, "mapping_layers": 3}
JUDGE = {"resolution": 16, "channels": [6, 5, 4]}


def stirred(room, name, parts=(), **options):
    """A seeded network of ours in which nothing is as it begins, and where the mean w is not 0."""
    torch.manual_seed(3)
    network = components.build(room, name, *parts, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for key, buffer in network.named_buffers():
            if key.endswith("w_avg"):
                buffer.normal_()
            if key.endswith("magnitude_ema"):
                buffer.fill_(0.7)
    return network.requires_grad_(False).eval()


class Made:
    """An object that pickles as a call of a function of some module."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


@contextmanager
def pretended(*names):
    """Functions under names of modules that are not installed, while a file is written."""
    before, functions = dict(sys.modules), []
    try:
        for name in names:
            module, _, function = name.rpartition(".")
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))

            def stand_in(*args):
                raise AssertionError("called")

            stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, function, function
            setattr(sys.modules[module], function, stand_in)
            functions.append(stand_in)
        yield functions
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def release_state(network):
    """A discriminator's state under the release's names."""
    state = dict(network.state_dict())
    root = math.sqrt(2)
    state["b4.out.weight"], state["b4.out.bias"] = state.pop("head.weight") * root, state.pop("head.bias")
    return state


def nvidia(parts, attributes, protocol=4, buffers=(), alone=False):
    """The bytes of a network pickle.

    Args:
        parts: {"G_ema": state, ...} under the release's names.
        attributes: {"synthesis.b4.conv1": {"conv_clamp": 256}, ...}, of every network.
        buffers: names of parts whose weights are frozen, and so among the buffers.
    """
    with pretended("torch_utils.persistence._reconstruct_persistent_obj") as (rebuild,):
        networks = {
            name: None if state is None else layer(rebuild, tree(state), attributes, "", name in buffers)
            for name, state in parts.items()
        }
        whole = networks["G_ema"] if alone else {"training_set_kwargs": {"path": "x"}, **networks, "augment_pipe": None}
        return pickle.dumps(whole, protocol=protocol)


def tree(state):
    """{"a.b": tensor} -> {"a": {"b": tensor}}"""
    root = {}
    for name, tensor in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = tensor
    return root


def layer(rebuild, node, attributes, path, frozen):
    """One layer, and those within it, as a call with its state."""
    own = {name: value for name, value in node.items() if isinstance(value, torch.Tensor)}
    inner = {name: value for name, value in node.items() if not isinstance(value, torch.Tensor)}
    kept = {name for name in own if frozen or name.endswith(("_avg", "_const", "_ema", "_filter", "freqs", "phases"))}
    state = {
        "training": False,
        "_parameters": OrderedDict((n, torch.nn.Parameter(t)) for n, t in own.items() if n not in kept),
        "_buffers": OrderedDict((n, own[n]) for n in own if n in kept),
        "_modules": OrderedDict(
            (name, layer(rebuild, part, attributes, f"{path}.{name}".strip("."), frozen))
            for name, part in inner.items()
        ),
        "_init_args": (),
        "weight_gain": np.float64(0.5),
        **attributes.get(path, {}),
    }
    state["_modules"].update(state.pop("more", {}))
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": "Layer", "state": state}
    return Made(rebuild, meta)


def stylegan3_attributes(layers):
    """What stylegan3's layers say of themselves, from the list that our config.json has."""
    first, *rest = layers
    said = {
        "synthesis.input": {
            "channels": first["channels"],
            "size": np.array(first["size"]),
            "sampling_rate": first["sampling_rate"],
            "bandwidth": first["bandwidth"],
        },
        "synthesis": {"layer_names": [one["name"] for one in rest], "output_scale": 0.25},
    }
    for one in rest:
        said[f"synthesis.{one['name']}"] = {
            "in_channels": one["in_channels"],
            "out_channels": np.int64(one["out_channels"]),
            "conv_kernel": one["kernel"],
            "up_factor": one["up"],
            "down_factor": one["down"],
            "padding": list(one["padding"]),
            "out_size": np.array(one["out_size"]),
            "is_torgb": one["torgb"],
            "conv_clamp": one["clamp"],
        }
    return said


def rosinality_generator(state):
    """A generator's state under the port's names, from the release's."""
    out = {}
    blocks = sorted({int(name.split(".")[1][1:]) for name in state if name.startswith("synthesis.b")})
    for name, tensor in state.items():
        if name.startswith("mapping.fc"):
            index, part = name.removeprefix("mapping.fc").split(".")
            out[f"style.{int(index) + 1}.{part}"] = tensor
    out["input.input"] = state["synthesis.b4.const"][None]
    noises = 0
    for i, r in enumerate(blocks):
        layers = {"conv1": "conv1"} if i == 0 else {"conv0": f"convs.{2 * i - 2}", "conv1": f"convs.{2 * i - 1}"}
        for ours, theirs in layers.items():
            own = f"synthesis.b{r}.{ours}"
            out[f"{theirs}.conv.weight"] = state[f"{own}.weight"][None]
            for part in ("weight", "bias"):
                out[f"{theirs}.conv.modulation.{part}"] = state[f"{own}.affine.{part}"]
            out[f"{theirs}.noise.weight"] = state[f"{own}.noise_strength"][None]
            out[f"{theirs}.activate.bias"] = state[f"{own}.bias"]
            out[f"noises.noise_{noises}"] = state[f"{own}.noise_const"][None, None]
            noises += 1
        rgb, own = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}", f"synthesis.b{r}.torgb"
        out[f"{rgb}.conv.weight"] = state[f"{own}.weight"][None]
        for part in ("weight", "bias"):
            out[f"{rgb}.conv.modulation.{part}"] = state[f"{own}.affine.{part}"]
        out[f"{rgb}.bias"] = state[f"{own}.bias"][None, :, None, None]
        if i:
            out[f"{rgb}.upsample.kernel"] = torch.ones(4, 4) / 4
            out[f"convs.{2 * i - 2}.conv.blur.kernel"] = torch.ones(4, 4) / 4
    return out


def rosinality_discriminator(state):
    """A discriminator's state under the port's names, from the release's."""
    blocks = sorted({int(n.split(".")[0][1:]) for n in state if n.endswith("conv0.weight")}, reverse=True)
    out = {
        "convs.0.0.weight": state[f"b{blocks[0]}.fromrgb.weight"],
        "convs.0.1.bias": state[f"b{blocks[0]}.fromrgb.bias"],
    }
    for i, r in enumerate(blocks, 1):
        out[f"convs.{i}.conv1.0.weight"], out[f"convs.{i}.conv1.1.bias"] = (
            state[f"b{r}.conv0.{p}"] for p in ("weight", "bias")
        )
        out[f"convs.{i}.conv2.0.kernel"] = torch.ones(4, 4) / 16
        out[f"convs.{i}.conv2.1.weight"], out[f"convs.{i}.conv2.2.bias"] = (
            state[f"b{r}.conv1.{p}"] for p in ("weight", "bias")
        )
        out[f"convs.{i}.skip.1.weight"] = state[f"b{r}.skip.weight"]
    out["final_conv.0.weight"], out["final_conv.1.bias"] = state["b4.conv.weight"], state["b4.conv.bias"]
    for i, name in enumerate(("fc", "out")):
        out[f"final_linear.{i}.weight"], out[f"final_linear.{i}.bias"] = (
            state[f"b4.{name}.weight"],
            state[f"b4.{name}.bias"],
        )
    return out


def saved(content, zipped=True):
    """The bytes of torch.save."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def training_checkpoint(generator, discriminator):
    """What the port's training saves."""
    return {
        "g": {k: v + 1 for k, v in generator.items()},
        "d": discriminator,
        "g_ema": generator,
        "g_optim": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 0.002, "params": [0]}],
        },
        "args": Namespace(size=16, path="x" * 400, mixing=0.9),
        "ada_aug_p": 0.1,
    }
