"""The benchmark compares like with like: the released code's way and ours compute the same."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench_step")


@pytest.fixture
def iterations(bench: ModuleType) -> ModuleType:
    return importlib.import_module("bench_step_iterations")


@pytest.fixture
def styled(bench: ModuleType) -> ModuleType:
    return importlib.import_module("styled_reference")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_released_way_and_ours_agree_in_outputs_and_gradients_for_mixed_classes(bench, dtype, tolerance):
    size = bench.Size(batch=8, resolution=16, classes=3, threads=1, channels=12)
    found = bench.disagreement(size, dtype)
    assert {"images", "logits", "embeddings", "class network", "heads of blocks.1.conv1"} <= set(found)
    assert max(found.values()) < tolerance, found


def test_fused_up_sampling_agrees_too(bench):
    size = bench.Size(batch=4, resolution=128, classes=2, threads=1, channels=3)
    found = bench.disagreement(size, torch.float64)
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("variant", ["(a) released", "(b) ours", "(c) source"])
def test_every_variant_runs_a_whole_iteration(bench, iterations, variant):
    iteration = iterations.Iteration(variant, bench.Size(batch=4, resolution=8, classes=2, threads=1, channels=4))
    trained = [p.detach().clone() for p in iteration.trainer.task.generator.trained.parameters()]
    for penalised in (True, False):
        iteration(penalised)
    after = iteration.trainer.task.generator.trained.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(trained, after, strict=True))


@pytest.mark.parametrize(("backbone", "up"), [("stylegan2", False), ("stylegan2", True), ("stylegan3", False)])
def test_a_styled_site_with_a_kernel_per_sample_computes_what_ours_does(styled, backbone, up):
    labels = torch.tensor([0, 0, 1, 2, 2])
    made = styled.site(backbone, 8, 4, up, labels, 4)
    outputs, gradients = {}, {}
    for name in (styled.PER_SAMPLE, styled.OURS):
        made.networks[name].zero_grad()
        outputs[name] = made.runs[name]()
        (outputs[name] * torch.linspace(-1, 1, outputs[name].numel()).view_as(outputs[name])).sum().backward()
        # The biases stand beside the outputs, and have no gradient.
        gradients[name] = [p.grad.clone() for p in made.networks[name].parameters() if p.grad is not None]
    torch.testing.assert_close(outputs[styled.PER_SAMPLE], outputs[styled.OURS], rtol=1e-4, atol=1e-4)
    assert len(gradients[styled.OURS]) > 3
    for theirs, ours in zip(gradients[styled.PER_SAMPLE], gradients[styled.OURS], strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
