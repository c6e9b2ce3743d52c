"""Ranks on their shares, in one part or several, compute what one process computes on all of it, in float64."""

from __future__ import annotations

import json

import equivalence
import pytest
import ranks
import torch
from equivalence import ENGINES, IN_FLOAT32, REPLICATED, STEPS, TWO_RANKS, Case, Held, gradients
from safetensors import safe_open

TOLERANCE = 1e-11  # of each tensor's largest entry


@pytest.fixture(scope="module")
def two_ranks(shards, source, tmp_path_factory):
    """The folder where two gloo ranks, started together, left their tensors."""
    return left_by(2, TWO_RANKS, shards, source, tmp_path_factory.mktemp("ranks"))


def left_by(world, cases, shards, source, out):
    ranks.run(world, equivalence.main, shards, source, out, *cases)
    return out


def read(folder, case, rank, world=2):
    with safe_open(folder / f"{case.name}-rank{rank}.safetensors", "pt") as file:
        assert file.metadata()["world"] == str(world)
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def held(folder, case, rank):
    with safe_open(folder / f"{case.name}-rank{rank}.safetensors", "pt") as file:
        return Held(*json.loads(file.metadata()["held"]))


def errors(got, expected):
    """name -> the greatest difference, of the tensor's largest entry."""
    return {
        name: float((got[name] - value).abs().max()) / (float(value.abs().max()) or 1.0)
        for name, value in expected.items()
    }


@pytest.mark.parametrize("case", REPLICATED, ids=lambda case: case.name)
def test_two_ranks_equal_one_process_on_the_same_global_batch(case, two_ranks, shards, source, tmp_path):
    alone, world, _ = gradients(case._replace(accumulate=1), shards, source, tmp_path)
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


@pytest.mark.parametrize("case", ENGINES[1:], ids=lambda case: case.name)
def test_an_engine_that_divides_computes_what_replicated_ranks_do(case, two_ranks, shards, source, tmp_path):
    first, second = (read(two_ranks, case, rank) for rank in range(2))
    if case.dtype == "float64":
        reference = gradients(case._replace(accumulate=1, engine="replicated"), shards, source, tmp_path, True)[0]
    else:
        reference = read(two_ranks, IN_FLOAT32, 0)
    for own in (first, second, reference):
        del own["labels"]
    assert first.keys() == second.keys() == reference.keys()
    assert {name.split("/")[0] for name in first} == {"after", *(f"phase{i}" for i in range(2 * STEPS))}
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    if case.dtype == "float64":
        assert max(errors(first, reference).values()) < TOLERANCE
        return
    for name, error in errors(first, reference).items():
        if name.startswith(("phase0", "phase1")):
            assert error < 1e-5, f"{name}: {error:.1e} of its largest entry"
    # Later on Adam enlarges the rounding of entries that are almost zero, so tensors are compared as a whole.
    for name, value in reference.items():
        assert (first[name] - value).norm() <= 1e-3 * value.norm(), name


@pytest.mark.slow
def test_two_replicas_of_two_shares_compute_what_one_process_does(shards, source, tmp_path):
    case = Case("r1", 16, engine="fsdp2", replicas=2)
    left_by(4, [case], shards, source, tmp_path)
    of_ranks = [read(tmp_path, case, rank, world=4) for rank in range(4)]
    reference = gradients(Case("r1", 16), shards, source, tmp_path / "alone", True)[0]
    for own in (*of_ranks, reference):
        del own["labels"]
    assert all(own.keys() == reference.keys() for own in of_ranks)
    assert max(max(errors(own, reference).values()) for own in of_ranks) < TOLERANCE
    first, *others = (held(tmp_path, case, rank) for rank in range(4))
    # Half of G's float64 moments on each: divided over two ranks, and not over four.
    whole = 2 * 8 * sum(x.numel() for name, x in reference.items() if name.startswith("after/learner/trained."))
    assert first.moments == pytest.approx(whole / 2, rel=0.05)
    assert all(other == pytest.approx(first, rel=0.05) for other in others)


def test_what_each_engine_divides_halves_on_two_ranks(two_ranks):
    whole = held(two_ranks, IN_FLOAT32, 0)
    assert whole.moments == 2 * 4 * sum(x.numel() for x in trained_weights(two_ranks))
    for case in ENGINES[1:]:
        fsdp = case.engine == "fsdp2"
        parts = Held(2, 2, 1) if fsdp else Held(1, 2, 2)
        wide = 2 if case.dtype == "float64" else 1
        for rank in range(2):
            for got, all_of_it, among in zip(held(two_ranks, case, rank), whole, parts, strict=True):
                assert got == pytest.approx(wide * all_of_it / among, rel=0.05), case  # some do not come apart evenly


def trained_weights(folder):
    state = read(folder, IN_FLOAT32, 0)
    return [value for name, value in state.items() if name.startswith("after/learner/trained.")]


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
