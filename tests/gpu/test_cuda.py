"""A training step and scores on a CUDA device, against the same on the CPU. Seconds each; run with -m gpu."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import tiny
import torch

from hmgan.config import entries
from hmgan.evaluation.features import extract
from hmgan.kernels.available import lacking
from hmgan.layers.equalized import instance_norm
from hmgan.layers.float32 import products
from hmgan.metrics.networks import load_extractor
from hmgan.train import precision
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.log import RunLog

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # what a driver or a compiler warns of is not ours
]
BF16 = "compute.precision=bf16"
WHOLE = ("contrastive=barlow-twins", "task.freeze=[]")
# What a source without normalisations, without old classes or without labels cannot take.
NORMS_ONLY = ("adain", "adain-class-only", "cgan-transfer-port", "scale-shift")
KINDS = [
    (backbone, modulation)
    for backbone in entries.known("backbone")
    for modulation in entries.known("modulation")
    if modulation not in ("label-to-z", "joined")  # `hmgan classes` makes that one of trained generators
    and not (backbone == "gan-memory-resnet" and modulation in NORMS_ONLY)
    and not (backbone != "biggan" and modulation == "cgan-transfer")
]
EPSILON = torch.finfo(torch.bfloat16).eps


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    with products(tf32=False):
        yield
    torch.backends.cudnn.deterministic = False


@pytest.fixture(scope="module")
def source_of(tmp_path_factory, source):
    made = {"stylegan1": source}

    def make(name):
        if name not in made:
            made[name] = tiny.write_source(tmp_path_factory.mktemp(name), backbone=name)
        return made[name]

    return make


def step_on(device, experiment, folder, monkeypatch, step=0):
    """One training step: each network's gradient as one vector on the CPU, and its statistics."""
    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "device", property(lambda _: torch.device(device)))
        trainer = tiny.make_trainer(experiment, folder)
        trainer.step, gradients = step, {}
        average = trainer.runtime.average_gradients

        def look(network, loss):
            norm = average(network, loss)
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            assert {grad.device.type for grad in grads} == {device}
            assert {grad.dtype for grad in grads} == {torch.float32}
            name = "D" if network is trainer.task.critic else "G"
            gradients[name] = torch.cat([grad.detach().flatten() for grad in grads]).double().cpu()
            return norm

        trainer.runtime.average_gradients = look
        stats = trainer.take_step(next(trainer.batches()))
    assert all(bool(x.isfinite().all()) for x in trainer.task.generator.state_dict().values())
    return gradients, {name: float(value.detach()) for name, value in stats.items()}


def assert_alike(one, other, limits):
    (gradients, stats), (wanted, wanted_stats) = one, other
    errors = {name: float((gradients[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted}
    print(errors)
    assert errors.keys() == {"D", "G"}
    assert all(errors[name] < limits[name] for name in errors), errors
    assert stats == pytest.approx(wanted_stats, rel=max(limits.values()), abs=max(limits.values()))


@pytest.mark.parametrize(("backbone", "modulation"), KINDS)
def test_a_step_on_cuda_equals_one_on_the_cpu(backbone, modulation, source_of, shards, tmp_path, monkeypatch):
    experiment = tiny.transfer(shards, source_of(backbone), f"modulation={modulation}", *WHOLE)
    wanted = step_on("cpu", experiment, tmp_path, monkeypatch)
    assert_alike(step_on("cuda", experiment, tmp_path, monkeypatch), wanted, {"D": 1e-4, "G": 1e-3})


@pytest.mark.parametrize("chosen", [("augment=diffaugment",), ("augment.name=ada", "augment.start=0.5")])
def test_an_augmented_step_on_cuda_equals_one_on_the_cpu(chosen, source, shards, tmp_path, monkeypatch):
    experiment = tiny.transfer(shards, source, *chosen)
    wanted = step_on("cpu", experiment, tmp_path, monkeypatch)
    assert_alike(step_on("cuda", experiment, tmp_path, monkeypatch), wanted, {"D": 1e-4, "G": 1e-3})


@pytest.mark.parametrize("step", [0, 1])  # with R1 and without
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("edits", [("adafm", "mlp"), ("adain", "mlp"), ("adafm", "one-hot")])
def test_a_bf16_step_is_close_to_a_float32_step(edits, layout, step, source, shards, tmp_path, monkeypatch):
    chosen = (f"modulation={edits[0]}", f"class_net={edits[1]}", *WHOLE)
    exact = step_on("cuda", tiny.transfer(shards, source, *chosen), tmp_path, monkeypatch, step)
    monkeypatch.setattr(precision, "layout_of", lambda *_: layout)
    rounded = step_on("cuda", tiny.transfer(shards, source, *chosen, BF16), tmp_path, monkeypatch, step)
    assert_alike(rounded, exact, {"D": 0.05, "G": 0.2})
    assert rounded[0]["D"].ne(exact[0]["D"]).any()
    if step == 0:
        assert rounded[1]["loss/r1"] == pytest.approx(exact[1]["loss/r1"], rel=1e-5)


def test_channels_last_changes_a_step_by_rounding_alone(source, shards, tmp_path, monkeypatch):
    plain = step_on("cuda", tiny.transfer(shards, source, *WHOLE), tmp_path, monkeypatch)
    monkeypatch.setattr(precision, "layout_of", lambda *_: torch.channels_last)
    last = step_on("cuda", tiny.transfer(shards, source, *WHOLE), tmp_path, monkeypatch)
    assert_alike(last, plain, {"D": 1e-4, "G": 1e-3})


def test_a_bf16_instance_norm_has_float32_statistics():
    x = (30 + torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))).bfloat16().cuda()
    got = instance_norm(x, torch.ones(4, 8, device="cuda"), torch.zeros(4, 8, device="cuda"))
    var, mean = torch.var_mean(x.double(), (2, 3), correction=0, keepdim=True)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), (x.double() - mean) / (var + 1e-5).sqrt(), rtol=EPSILON / 2, atol=1e-4)


@pytest.mark.skipif(shutil.which("cc") is None, reason="Triton needs a C compiler")
def test_kernels_change_a_step_by_rounding_alone(source, shards, tmp_path, monkeypatch):
    """With R1 and without."""
    assert lacking(torch.device("cuda")) == ""
    chosen = (*WHOLE, "r1.every=2")
    for step in (0, 1):
        by_layers, by_kernels = (
            step_on(
                "cuda", tiny.transfer(shards, source, *chosen, f"compute.kernels={way}"), tmp_path, monkeypatch, step
            )
            for way in ("torch", "auto")
        )
        assert_alike(by_kernels, by_layers, {"D": 1e-4, "G": 1e-3})


@pytest.mark.parametrize("kernels", ["torch", "auto"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_on_cuda_goes_on_bit_for_bit(precision, kernels, source, shards, tmp_path):
    """With algorithms that are repeatable; CUDA's fastest need not be."""
    chosen = (
        f"compute.precision={precision}",
        f"compute.kernels={kernels}",
        "r1.every=2",
        "train.snap=0.008",
        "contrastive=barlow-twins",
    )
    whole = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.016"), tmp_path / "whole")
    part = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.008"), tmp_path / "part")
    again = tiny.make_trainer(tiny.transfer(shards, source, *chosen, "train.kimg=0.016"), tmp_path / "part")
    assert whole.runtime.device.type == "cuda"
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with RunLog(None, 1.0) as log:
            whole.train(log)
            part.train(log)
            again.resume(tmp_path / "part" / "checkpoints" / f"{2:09d}")
            again.train(log)
    finally:
        torch.use_deterministic_algorithms(False)
    for network, other in (
        (whole.task.generator, again.task.generator),
        (whole.task.discriminator, again.task.discriminator),
        (whole.task.ema, again.task.ema),
    ):
        state = other.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_features_on_cuda_equal_those_of_the_cpu():
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = extract([images], load_extractor("squeezenet"), "cpu")
    got = extract([images], load_extractor("squeezenet"), "cuda")
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_a_command_trains_and_scores_on_cuda(source, shards, tmp_path):
    settings = tiny.options(train__batch=4, train__snap=0.008, train__trackers="[]", compute__precision="bf16")
    chosen = ("--source", source, "--kimg", 0.008, "--metrics", 4, "--outdir", tmp_path / "runs", *settings)
    assert tiny.command("train", "hyper-mod-b", "--data", shards, *chosen) == 0
    (run,) = (tmp_path / "runs").iterdir()
    scores = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {score["class"] for score in scores} == {*tiny.CLASSES, "mean"}
    assert "x cuda" in (run / "log.txt").read_text()
    assert tiny.command("evaluate", run, "--data", shards, "--per-class", 4) == 0


def test_memory_does_not_grow_from_step_to_step(source, shards, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *WHOLE, BF16, "r1.every=4"), tmp_path)
    stream, held = trainer.batches(), []
    for _ in range(24):
        trainer.take_step(next(stream))
        trainer.step += 1
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    after_r1 = held[::4]
    print(held)
    assert max(after_r1[2:]) <= after_r1[1] + 2**16, held
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
