"""bfloat16 passes: what they change, by how much, and what they leave alone. CPU autocast; tests/gpu has CUDA's."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.nn import functional as F

from hmgan import components
from hmgan.config import entries
from hmgan.config.settings import Compute
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.equalized import Blur, instance_norm, leaky_relu, leaky_relu_by_sign
from hmgan.layers.float32 import products, unrounded, widened
from hmgan.options.training import TrainOptions
from hmgan.train import command, precision
from hmgan.train.log import RunLog

BF16 = "compute.precision=bf16"
EPSILON = torch.finfo(torch.bfloat16).eps  # 2^-7: the gap between 1 and the next number
# GAN Memory's edits are adafm's with a row of its own for each class.
EDITS = {
    "hyper-mod": ("modulation=adafm", "class_net=mlp"),
    "adain": ("modulation=adain", "class_net=mlp"),
    "gan-memory": ("modulation=adafm", "class_net=one-hot"),
}


def step_of(experiment, folder, *, step=0):
    """One training step: its trainer, each network's gradient as one vector, and its statistics."""
    trainer = tiny.make_trainer(experiment, folder)
    trainer.step = step
    gradients = {}
    average = trainer.runtime.average_gradients

    def look(network, loss):
        norm = average(network, loss)
        grads = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        assert all(grad.dtype == torch.float32 for grad in grads.values())
        gradients["D" if network is trainer.task.critic else "G"] = torch.cat([g.flatten() for g in grads.values()])
        return norm

    trainer.runtime.average_gradients = look
    stats = trainer.take_step(next(trainer.batches()))
    return trainer, gradients, {name: float(value.detach()) for name, value in stats.items()}


def relative(got, wanted):
    return float((got - wanted).detach().norm() / wanted.detach().norm())


@pytest.mark.parametrize("edits", EDITS)
def test_a_bf16_step_is_close_to_a_float32_step(edits, shards, source, tmp_path):
    chosen = (*EDITS[edits], "contrastive=barlow-twins", "task.freeze=[]")
    _, exact, stats = step_of(tiny.transfer(shards, source, *chosen), tmp_path)
    rounded_trainer, rounded, rounded_stats = step_of(tiny.transfer(shards, source, *chosen, BF16), tmp_path)
    # 8 px networks have few numbers to average the rounding over, and G's gradient comes through both of them.
    errors = {network: relative(rounded[network], exact[network]) for network in exact}
    assert 1e-4 < errors["D"] < 0.05, errors
    assert 1e-4 < errors["G"] < 0.2, errors
    for name in ("loss/D", "loss/G", "score/real", "score/fake"):
        assert rounded_stats[name] == pytest.approx(stats[name], abs=0.02), name
    assert rounded_stats["loss/contrastive"] == pytest.approx(stats["loss/contrastive"], rel=0.02)
    for network in (rounded_trainer.task.generator, rounded_trainer.task.discriminator, rounded_trainer.task.ema):
        assert all(x.dtype != torch.bfloat16 for x in network.state_dict().values())
    for optimizer in (rounded_trainer.task.gen_optimizer, rounded_trainer.task.disc_optimizer):
        moments = [x for slots in optimizer.state.values() for x in slots.values()]
        assert moments
        assert all(x.dtype == torch.float32 for x in moments)


def test_r1_and_its_gradient_are_those_of_float32(shards, source, tmp_path):
    alone = ("r1.gamma=1e8", "task.freeze=[]")  # so large that nothing else of D's gradient is left
    _, exact, stats = step_of(tiny.transfer(shards, source, *alone), tmp_path)
    _, rounded, rounded_stats = step_of(tiny.transfer(shards, source, *alone, BF16), tmp_path)
    assert rounded_stats["loss/r1"] == stats["loss/r1"]
    assert relative(rounded["D"], exact["D"]) < 1e-6


def test_without_r1_the_reals_pass_in_bf16_too(shards, source, tmp_path):
    _, _, stats = step_of(tiny.transfer(shards, source), tmp_path, step=1)
    _, _, rounded = step_of(tiny.transfer(shards, source, BF16), tmp_path, step=1)
    assert 0 < abs(rounded["score/real"] - stats["score/real"]) < 0.02


@pytest.mark.parametrize("name", tiny.BACKBONES)
def test_images_are_float32_and_maps_are_bf16(name):
    backbone = components.build("backbone", name, **tiny.BACKBONES[name]).eval()
    latents = backbone.latents(range(3))
    with torch.no_grad():
        exact = backbone(latents)
        with torch.autocast("cpu", torch.bfloat16):
            out = backbone(latents)
    assert out.image.dtype == torch.float32
    assert out.features[-1].dtype == torch.bfloat16
    assert 0 < relative(out.image, exact.image) < 8 * EPSILON


@pytest.mark.parametrize("head", entries.known("disc-head"))
@pytest.mark.parametrize("name", [name for name in entries.known("discriminator") if name != "projected"])  # of a file
def test_logits_and_embeddings_are_float32_and_close(name, head):
    def make_head(width, classes):
        return components.build("disc-head", head, width, classes)

    torch.manual_seed(0)
    network = components.build("discriminator", name, 3, make_head, **tiny.DISCRIMINATOR)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    exact = network(images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(images, labels)
    assert {x.dtype for x in rounded if x is not None} == {torch.float32}
    assert 0 < relative(rounded.embedding, exact.embedding) < 8 * EPSILON
    # A head is exact: it rounds nothing of its own.
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.head(exact.embedding, labels).logit, exact.logit)


@pytest.mark.parametrize("modulation", ["adafm", "adafm-low-rank", "adain", "scale-shift", "cgan-transfer-port"])
def test_tables_under_autocast_are_those_of_float32_to_the_bit(modulation):
    torch.manual_seed(0)
    source = components.build("backbone", "stylegan1", **tiny.BACKBONE)
    class_net = components.build("class-net", "mlp", 3)
    heads = components.build("modulation", modulation, source, class_net.dim)
    for parameter in heads.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    generator, kept = TransferGenerator(source, class_net, heads), []
    heads.register_forward_hook(lambda module, inputs, edits: kept.append(edits))
    latents, labels = generator.latents(range(3)), torch.tensor([0, 1, 2])
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            image = generator(latents, labels).image
        grads.append(torch.autograd.grad(image.square().sum(), list(heads.parameters()), materialize_grads=True))
    tables = [list(vars(edit).values()) for edits in kept for edit in (*edits.weights.values(), *edits.styles.values())]
    half = len(tables) // 2
    assert half > 0
    for plain, mixed in zip(tables[:half], tables[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))
    assert {grad.dtype for grad in grads[1]} == {torch.float32}


def test_a_bf16_instance_norm_has_float32_statistics():
    """Of maps whose mean is 30 times their deviation, where statistics in bfloat16 would be lost."""
    x = (30 + torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))).bfloat16()
    got = instance_norm(x, torch.ones(4, 8), torch.zeros(4, 8))
    wide = x.double()
    var, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
    wanted = (wide - mean) / (var + 1e-5).sqrt()
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), wanted, rtol=EPSILON / 2, atol=1e-5)


def test_custom_gradients_take_bf16_maps():
    """Against the same layers in float64: the blur, both leaky ReLUs, to the second order as far as R1 needs it."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    blur, found = Blur(), []
    for dtype in (torch.bfloat16, torch.float64):
        y = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = blur(leaky_relu_by_sign(blur(leaky_relu(y))))
        (first,) = torch.autograd.grad(out.square().sum(), y, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), y)
        assert out.dtype == first.dtype == second.dtype == dtype
        found.append((out.double(), first.double(), second.double()))
    for got, wanted in zip(*found, strict=True):
        assert relative(got, wanted) < 4 * EPSILON


def test_widened_never_narrows_and_unrounded_stops_autocast():
    assert widened(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert widened(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    x = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.linear(x, x).dtype == torch.bfloat16
        with unrounded(x):
            assert F.linear(x, x).dtype == torch.float32
    # The preflight looks at shapes on this device, which has no autocast.
    empty = torch.empty(4, 4, device="meta")
    with unrounded(empty):
        assert F.linear(empty, empty).dtype == torch.float32


def test_the_policy_of_float32_products_is_set_and_put_back():
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    for tf32 in (True, False):
        with products(tf32=tf32):
            assert torch.backends.cudnn.allow_tf32 == tf32
            assert (torch.get_float32_matmul_precision() == "high") == tf32
    assert before == (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())


@pytest.mark.parametrize("device", ["cpu", "cuda", "meta"])
@pytest.mark.parametrize("rounded", ["float32", "bf16"])
@pytest.mark.parametrize("on_cpu", [torch.contiguous_format, torch.channels_last], ids=str)
def test_maps_are_channels_last_by_kernels_and_in_bf16_on_a_gpu_and_as_d_wants_on_a_cpu(device, rounded, on_cpu):
    assert precision.layout_of(torch.device(device), rounded, True, on_cpu) == torch.channels_last
    wanted = torch.channels_last if (device, rounded) == ("cuda", "bf16") else torch.contiguous_format
    wanted = on_cpu if device == "cpu" else wanted
    assert precision.layout_of(torch.device(device), rounded, False, on_cpu) == wanted
    asked = Compute(precision=rounded, kernels="auto")  # of no network, so that none can join
    assert precision.join_passes(asked, torch.device(device)) == (False, "")


def test_channels_last_changes_a_step_by_rounding_alone(shards, source, tmp_path, monkeypatch):
    experiment = tiny.transfer(shards, source, "contrastive=barlow-twins")
    _, last, other = step_of(experiment, tmp_path)
    monkeypatch.setattr(precision, "layout_of", lambda *_: torch.contiguous_format)
    _, plain, stats = step_of(experiment, tmp_path)
    assert {name: relative(last[name], plain[name]) for name in plain} == pytest.approx({"D": 0, "G": 0}, abs=1e-5)
    assert other == pytest.approx(stats, rel=1e-5)


def test_maps_keep_the_layout_of_ds_images(shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source), tmp_path)
    seen = []
    judge = trainer.task.discriminator
    for layer in (judge.from_rgb, *(conv for block in judge.blocks for conv in (block.conv1, block.conv2))):
        layer.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    trainer.take_step(next(trainer.batches()))
    assert len(seen) == 3 * 3  # reals, fakes and G's fakes, through the convolutions above 4 px
    assert all(seen)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_bf16_run_goes_on_bit_for_bit(layout, shards, source, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "layout_of", lambda *_: layout)
    chosen = (BF16, "r1.every=2", "train.snap=0.008")
    whole = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.016"), tmp_path / "whole")
    part = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.008"), tmp_path / "part")
    again = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.016"), tmp_path / "part")
    with RunLog(None, 1.0) as log:
        whole.train(log)
        part.train(log)
        again.resume(tmp_path / "part" / "checkpoints" / f"{2:09d}")
        again.train(log)
    for name, network in whole.task.kept().items():
        state, other = network.state_dict(), again.task.kept()[name].state_dict()
        if "param_groups" in state:
            state, other = ({f"{i}{k}": v for i, s in x["state"].items() for k, v in s.items()} for x in (state, other))
        assert state.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in state.items()), name


def configured(*overrides):
    options = TrainOptions(experiment="hyper-mod-b", overrides=overrides)
    return command.configured(options).compute.precision


def test_accelerates_launcher_may_choose_the_precision(monkeypatch):
    assert configured() == "float32"
    monkeypatch.setenv(precision.LAUNCHER, "bf16")
    assert configured() == "bf16"
    assert configured("compute.precision=float32") == "float32"  # what is said to hmgan itself counts
    monkeypatch.setenv(precision.LAUNCHER, "fp16")
    with pytest.raises(
        UserError, match=r"^mixed precision can be no or bf16, got fp16 from accelerate launch; use bf16$"
    ):
        configured()
