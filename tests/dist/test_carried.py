"""Any engine goes on with what any other has saved, on any number of ranks."""

from __future__ import annotations

import json
from importlib.util import find_spec

import carried
import pytest
import ranks
import torch
from carried import EXACT, go_on
from safetensors.torch import load_file

from hmgan.train import checkpoint

ENGINES = ["replicated", *(["zero1", "zero2"] if find_spec("deepspeed") else []), "fsdp2"]
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-11}  # of each tensor's largest entry


@pytest.fixture(scope="module")
def runs(shards, source, tmp_path_factory):
    """One process begins two runs; two ranks go on with them, and begin others."""
    out = tmp_path_factory.mktemp("carried")
    for name in ("chain", "straight"):
        go_on(out / name, shards, source, "replicated", 1)
    ranks.run(2, carried.main, shards, source, out, *ENGINES)
    return out


def newest(folder):
    path = checkpoint.newest(folder / "checkpoints")
    return load_file(path / "state.safetensors"), json.loads((path / "state.json").read_text())


def assert_close(got, expected, dtype=torch.float32):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        gap = float((got[name].double() - value.double()).abs().max()) / (float(value.double().abs().max()) or 1.0)
        assert gap < ROUNDING[dtype], f"{name}: {gap:.1e} of its largest entry"


def test_a_run_that_every_step_is_another_engines_ends_as_a_run_of_one(runs):
    (chain, chained), (straight, whole) = (newest(runs / name) for name in ("chain", "straight"))
    assert chained["step"] == whole["step"] == 1 + len(ENGINES)
    assert chained["groups"].keys() == whole["groups"].keys()
    assert_close(chain, straight)


def test_one_process_goes_on_with_what_ranks_have_saved(runs, shards, source):
    after = {}
    for name in ("chain", "straight"):
        trainer, world = go_on(runs / name, shards, source, "replicated", 2 + len(ENGINES))
        assert world == 1
        assert trainer.step == 2 + len(ENGINES)
        after[name] = newest(runs / name)[0]
    assert_close(after["chain"], after["straight"])


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_stopped_run_goes_on_exactly_under_its_own_engine(engine, runs):
    stopped, whole = (newest(runs / f"{engine}-{name}")[0] for name in ("stopped", "whole"))
    assert stopped.keys() == whole.keys()
    assert all(torch.equal(stopped[name], value) for name, value in whole.items())


def test_each_rank_may_draw_with_the_average_by_itself(runs):
    for name in ("straight", *ENGINES[1:]):
        first, second = (torch.load(runs / f"{name}-image{rank}.pt", weights_only=True) for rank in range(2))
        assert torch.equal(first, second), name
        assert first.abs().max() > 0.01
    images = [torch.load(runs / f"{name}-image0.pt", weights_only=True) for name in ENGINES[1:]]
    assert all(torch.allclose(image, images[0], atol=1e-4) for image in images)  # all after two steps


@pytest.mark.parametrize("engine", ENGINES)
def test_a_phase_that_is_not_finite_on_one_rank_is_left_out_on_all_by_every_engine(engine, runs):
    tensors, state = newest(runs / f"{engine}-poisoned")
    assert state["nonfinite"] == [1, 1, 1]
    assert all(bool(value.isfinite().all()) for value in tensors.values())
    steps = {name: float(value) for name, value in tensors.items() if name.endswith("/0.step")}
    assert steps == {"gen_optimizer/0.step": 2, "disc_optimizer/0.step": 3}


def test_after_such_a_phase_all_engines_have_the_same_numbers(runs):
    """In float32 those that add up whole gradients: Adam makes steps of what rounds otherwise in factors."""
    float64 = [newest(runs / f"{engine}-poisoned-float64")[0] for engine in EXACT]
    assert_close(*float64, torch.float64)
    assert float64[0]["generator/class_net.embedding.weight"].dtype == torch.float64
    float32 = [newest(runs / f"{engine}-poisoned")[0] for engine in ENGINES[1:]]
    for tensors in float32[:-1]:
        assert_close(tensors, float32[-1])
