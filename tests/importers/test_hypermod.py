"""`hmgan import` of released Hyper-Modulation checkpoints, against a slow reading of what that code computes."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from reference_stylegan1 import generate, noise_maps, port_generator, styles_of

from hmgan.generators.snapshot import load_generator
from hmgan.importers.convert import import_checkpoint
from hmgan.types import Latents

DIM, CLASSES = 5, 3


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def normalised(kernel):
    mean, std = kernel.mean((2, 3), keepdim=True), kernel.std((2, 3), keepdim=True)
    return (kernel - mean) / std


def released(widths, layers):
    """A checkpoint's states by the released code's names, every number random."""
    state, seed = {}, 100
    for name, tensor in port_generator(widths).items():
        name = name.replace("progression.0.conv1.input", "progression.0.conv1.0.input")
        if ".progression." in name and "conv" in name and name.endswith(("conv.weight_orig", "conv1.0.weight")):
            module = name.removesuffix(".conv.weight_orig").removesuffix(".weight")
            state[f"{module}.W"] = normalised(tensor)
            outputs, inputs = tensor.shape[:2]
            bias = tensor.shape[1] if module.endswith("conv1.0") else tensor.shape[0]
            state[f"{module}.task.linear.weight_orig"] = drawn(2 * inputs * outputs, DIM, seed=seed)
            state[f"{module}.task.linear.bias"] = drawn(2 * inputs * outputs, seed=seed + 1)
            state[f"{module}.task_bias_beta.linear.weight_orig"] = drawn(bias, DIM, seed=seed + 2)
            state[f"{module}.task_bias_beta.linear.bias"] = drawn(bias, seed=seed + 3)
            seed += 4
        elif ".progression." in name and name.endswith(("conv.bias", "conv1.0.bias")):
            state[name.removesuffix(".conv.bias").removesuffix(".bias") + ".b"] = tensor
        else:
            state[name] = tensor
    task = {"task.0.weight_orig": drawn(CLASSES, DIM, seed=1)}
    for i in range(layers):
        task[f"task.{2 * i + 1}.linear.weight_orig"] = drawn(DIM, DIM, seed=10 + i)
        task[f"task.{2 * i + 1}.linear.bias"] = drawn(DIM, seed=20 + i)
    return state, task


def class_vector(task, label, layers):
    v = task["task.0.weight_orig"][label] * sqrt(2 / DIM)
    for i in range(layers):
        linear = f"task.{2 * i + 1}.linear"
        v = F.leaky_relu(v @ task[f"{linear}.weight_orig"].T * sqrt(2 / DIM) + task[f"{linear}.bias"], 0.2)
    return v


def port_of(state, v):
    """The port's state whose plain convolutions are one class's, but for kernels that are fused."""
    port, fused = {}, {}
    for name, tensor in state.items():
        module = name.rpartition(".")[0]
        if name.endswith(".W"):
            head = f"{module}.task.linear"
            table = v @ state[f"{head}.weight_orig"].T * sqrt(2 / DIM) + state[f"{head}.bias"]
            gamma, beta = table.view(*tensor.shape[:2], 2)[..., None, None].unbind(2)
            if module.endswith("conv1.0"):
                wide = F.pad(tensor, [1, 1, 1, 1])
                four = (wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]) / 4
                fused[module] = (four * gamma + beta) * sqrt(2 / (16 * four.shape[1]))
                port[f"{module}.weight"] = tensor
            else:
                port[f"{module}.conv.weight_orig"] = tensor * gamma + beta
        elif name.endswith(".b"):
            head = f"{module}.task_bias_beta.linear"
            bias = tensor + v @ state[f"{head}.weight_orig"].T * sqrt(2 / DIM) + state[f"{head}.bias"]
            port[f"{module}.bias" if module.endswith("conv1.0") else f"{module}.conv.bias"] = bias
        elif ".task" not in name:
            port[name.replace("conv1.0.input", "conv1.input")] = tensor
    return port, fused


def image_of(port, fused, z, noise, blocks, monkeypatch):
    """The reference's image, its fused kernels replaced by ours."""
    kernels, plain = iter(fused.values()), F.conv_transpose2d

    def replaced(x, weight, *args, **kwargs):
        return plain(x, next(kernels).to(x), *args, **kwargs)

    with monkeypatch.context() as patch:
        if fused:
            patch.setattr(F, "conv_transpose2d", replaced)
        return generate(port, [styles_of(port, z)] * blocks, noise)[0]


@pytest.mark.parametrize("layers", [0, 4])
@pytest.mark.parametrize("widths", [(6, 5, 4), (4, 4, 4, 4, 3, 2)], ids=["16px", "128px"])
def test_every_class_is_drawn_as_the_released_code_drew_it(tmp_path, monkeypatch, widths, layers):
    state, task = released(widths, layers)
    content = {"g_running": state, "t_running_g": task, "generator": state, "discriminator": {}}
    torch.save(content, tmp_path / "model.pt")
    report = import_checkpoint(tmp_path / "model.pt", tmp_path / "out", report=lambda report: None)
    loaded = load_generator(tmp_path / "out")
    assert loaded.classes == ("0", "1", "2")
    blocks, z = len(widths), drawn(1, 8, seed=4).double()
    noise = noise_maps(1, blocks)
    for label in range(CLASSES):
        port, fused = port_of({k: t.double() for k, t in state.items()}, class_vector(task, label, layers).double())
        wanted = image_of(port, fused, z, noise, blocks, monkeypatch)
        latents = Latents(z, noise, z, torch.tensor([blocks]))
        got = loaded.generator.double()(latents, torch.tensor([label])).image.detach()
        assert float((got - wanted).abs().max()) < 1e-4 * float(wanted.std())
    fused_first = loaded.config["backbone"].get("fused_first", False)
    assert fused_first is (len(widths) > 5)
    assert {f"g_running/{name}" for name in state} == {
        entry.theirs for entry in (*report.matched, *report.left_out) if entry.theirs.startswith("g_running/")
    }
