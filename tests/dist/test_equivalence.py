"""Ranks on their shares, in one part or several, compute what one process computes on all of it, in float64."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from equivalence import STEPS, TWO_RANKS, Case, gradients
from safetensors import safe_open

HERE = Path(__file__).parent
TOLERANCE = 1e-11  # of each tensor's largest entry


def run_ranks(world, cases, shards, source, out):
    """Gloo ranks, started together, leave their tensors in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    common = {**os.environ, "PYTHONPATH": paths, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    words = [str(shards), str(source), str(out), *(json.dumps(case) for case in cases)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(HERE / "equivalence.py"), *words],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        errors = [rank.communicate(timeout=600)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(errors)
    return out


@pytest.fixture(scope="module")
def two_ranks(shards, source, tmp_path_factory):
    return run_ranks(2, TWO_RANKS, shards, source, tmp_path_factory.mktemp("ranks"))


def read(folder, case, rank, world=2):
    with safe_open(folder / f"{case.name}-rank{rank}.safetensors", "pt") as file:
        assert file.metadata() == {"world": str(world)}
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def errors(got, expected):
    """name -> the greatest difference, of the tensor's largest entry."""
    return {
        name: float((got[name] - value).abs().max()) / (float(value.abs().max()) or 1.0)
        for name, value in expected.items()
    }


@pytest.mark.parametrize("case", TWO_RANKS, ids=lambda case: case.name)
def test_two_ranks_equal_one_process_on_the_same_global_batch(case, two_ranks, shards, source, tmp_path):
    alone, world = gradients(case._replace(accumulate=1), shards, source, tmp_path)
    assert world == 1
    first, second = (read(two_ranks, case, rank) for rank in range(2))
    assert torch.equal(torch.cat([first.pop("labels"), second.pop("labels")], 1), alone.pop("labels"))
    assert first.keys() == second.keys() == alone.keys()
    # A phase for D, where one trains, and one for G per step, and each has gradients.
    phases = {name.split("/")[0] for name in alone if name.startswith("phase")}
    assert phases == {f"phase{i}" for i in range(STEPS if case.scenario == "reconstruction" else 2 * STEPS)}
    for name in alone:
        assert torch.equal(first[name], second[name]), f"{name} differs between the ranks"
    for name, error in errors(first, alone).items():
        assert error < TOLERANCE, f"{name}: {error:.1e} of its largest entry"


def test_the_ranks_of_these_tests_see_unequal_numbers_of_each_class(two_ranks):
    first, second = (read(two_ranks, Case("r1"), rank)["labels"] for rank in range(2))
    assert first.shape == (STEPS, 4)
    counts = [(a.bincount(minlength=3), b.bincount(minlength=3)) for a, b in zip(first, second, strict=True)]
    assert any(not torch.equal(a, b) for a, b in counts)
    # Also the harder case: a class that only one of the ranks has at all.
    assert any(bool(((a == 0) != (b == 0)).any()) for a, b in counts)


def test_gradients_of_the_scenarios_differ_so_that_agreement_says_something(two_ranks):
    r1, barlow, dcl = (read(two_ranks, Case(name), 0)["phase0/conv2.weight"] for name in ("r1", "barlow-twins", "dcl"))
    assert (r1 - barlow).abs().max() > 1e-3
    assert (r1 - dcl).abs().max() > 1e-3
    assert (barlow - dcl).abs().max() > 1e-3
