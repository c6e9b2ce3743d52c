"""Writers of TensorFlow's network pickles, for tests: variables by name, and networks within networks."""

from __future__ import annotations

import math
import pickle

import numpy as np
import torch

from importers.envelopes import SOURCE, Made, pretended


def tensorflow(networks, protocol=4, version=4, static=None):
    """A tuple of TensorFlow's networks, each {"": variables, "synthesis": variables, "mapping": variables}."""
    with pretended("dnnlib.tflib.network.Network") as (network,):

        def made(tables):
            state = {
                "version": version,
                "name": "Gs",
                "static_kwargs": {"num_channels": 3, **(static or {})},
                "components": {name: made({"": table}) for name, table in tables.items() if name},
                "build_module_src": SOURCE,
                "build_func_name": "G_main",
                "variables": [(name, np.asarray(value)) for name, value in tables.get("", {}).items()],
            }
            return Made(network, state=state)

        return pickle.dumps(tuple(made(tables) for tables in networks), protocol=protocol)


def tf_generator(state):
    """TensorFlow's variables of a generator, from the release's names."""
    synthesis, mapping = {}, {}
    for name, tensor in state.items():
        value = tensor.numpy()
        if name.startswith("mapping.fc"):
            index, part = name.removeprefix("mapping.fc").split(".")
            mapping[f"Dense{index}/{part}"] = value.T if part == "weight" else value
        if not name.startswith("synthesis."):
            continue
        _, block, *rest = name.split(".")
        i, r = int(block[1:]).bit_length() - 3, int(block[1:])
        folder = f"{r}x{r}"
        if rest == ["const"]:
            synthesis[f"{folder}/Const/const"] = value[None]
            continue
        layers = {"conv0": "Conv0_up", "conv1": "Conv1" if i else "Conv", "torgb": "ToRGB", "skip": "Skip"}
        where = f"{folder}/{layers[rest[0]]}"
        match rest[1:]:
            case ["weight"]:
                kernel = value.transpose(2, 3, 1, 0)
                flipped = rest[0] in ("conv0", "skip")
                synthesis[f"{where}/weight"] = kernel[::-1, ::-1] if flipped else kernel
            case ["affine", "weight"]:
                synthesis[f"{where}/mod_weight"] = value.T
            case ["affine", "bias"]:
                synthesis[f"{where}/mod_bias"] = value - 1
            case ["noise_const"]:
                synthesis[f"noise{max(2 * i - (rest[0] == 'conv0'), 0)}"] = value[None, None]
            case [other]:
                synthesis[f"{where}/{other}"] = value
    synthesis["lod"] = np.float32(0)
    return {
        "": {"lod": np.float32(0), "dlatent_avg": state["mapping.w_avg"].numpy()},
        "synthesis": synthesis,
        "mapping": mapping,
    }


def tf_discriminator(state):
    """TensorFlow's variables of a discriminator, from the release's names."""
    out = {"lod": np.float32(0)}
    names = {
        "fromrgb": "FromRGB",
        "conv0": "Conv0",
        "conv1": "Conv1_down",
        "skip": "Skip",
        "conv": "Conv",
        "fc": "Dense0",
    }
    for name, tensor in state.items():
        block, layer, part = name.split(".")
        value, folder = tensor.numpy(), f"{block[1:]}x{block[1:]}"
        where = "Output" if layer == "out" else f"{folder}/{names[layer]}"
        kernel = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        out[f"{where}/{part}"] = kernel if part == "weight" else value
    return {"": out}


def tf_stylegan1(state):
    """TensorFlow's variables of a first StyleGAN below 128 px, from our names: gains are ours, not the weights'."""
    synthesis, mapping, last = {}, {}, len({name.split(".")[1] for name in state if name.startswith("blocks.")}) - 1
    for i in range(last + 1):
        folder = f"{4 << i}x{4 << i}"
        for n, layer in ((1, "Conv0_up" if i else "Const"), (2, "Conv1" if i else "Conv")):
            own, where = f"blocks.{i}", f"{folder}/{layer}"
            noise = state[f"{own}.noise{n}.weight"]
            synthesis[f"{where}/Noise/weight"] = noise * math.sqrt(2 / len(noise))
            synthesis[f"{where}/StyleMod/weight"] = state[f"{own}.norm{n}.style.weight"].T * math.sqrt(2)
            bias = state[f"{own}.norm{n}.style.bias"].clone()
            bias[: len(noise)] -= 1
            synthesis[f"{where}/StyleMod/bias"] = bias
            synthesis[f"noise{2 * i + n - 1}"] = torch.zeros(1, 1, 4 << i, 4 << i)
            if i or n == 2:
                synthesis[f"{where}/weight"] = state[f"{own}.conv{n}.weight"].permute(2, 3, 1, 0)
                synthesis[f"{where}/bias"] = state[f"{own}.conv{n}.bias"]
            else:
                synthesis[f"{where}/bias"] = torch.full([len(noise)], 0.5)
                synthesis[f"{where}/const"] = state[f"{own}.const"] - 0.5
    synthesis["ToRGB_lod0/weight"] = state["to_rgb.weight"].permute(2, 3, 1, 0) * math.sqrt(2)
    synthesis["ToRGB_lod0/bias"] = state["to_rgb.bias"]
    for name, tensor in state.items():
        if name.startswith("mapping."):
            _, index, part = name.split(".")
            mapping[f"Dense{int(index) // 2}/{part}"] = 100 * (tensor.T if part == "weight" else tensor)
    tables = {"synthesis": synthesis, "mapping": mapping, "": {"dlatent_avg": torch.zeros(8)}}
    return {name: {k: v.contiguous().numpy() for k, v in table.items()} for name, table in tables.items()}


def tf_stylegan1_discriminator(widths, classes=1):
    """TensorFlow's variables of a first StyleGAN's discriminator at random; widths of 4, 8, ... px."""
    draw, last = np.random.default_rng(4), len(widths) - 1

    def layer(name, *shape):
        shapes = {"weight": shape, "bias": shape[-1:]}
        return {f"{name}/{part}": draw.standard_normal(size, np.float32) for part, size in shapes.items()}

    found = layer("FromRGB_lod0", 1, 1, 3, widths[last]) | layer("FromRGB_lod1", 1, 1, 3, widths[last - 1])
    for i in range(last, 0, -1):
        folder = f"{4 << i}x{4 << i}"
        found |= layer(f"{folder}/Conv0", 3, 3, widths[i], widths[i])
        found |= layer(f"{folder}/Conv1_down", 3, 3, widths[i], widths[i - 1])
    found |= layer("4x4/Conv", 3, 3, widths[0] + 1, widths[0]) | layer("4x4/Dense0", 16 * widths[0], widths[0])
    return {"": {**found, **layer("4x4/Dense1", widths[0], classes), "lod": np.float32(0)}}
