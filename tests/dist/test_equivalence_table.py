"""The equivalence table of docs/distributed.md: python -m pytest -m slow -s tests/dist/test_equivalence_table.py"""

from __future__ import annotations

from functools import cache

import equivalence
import pytest
import ranks
from equivalence import ZERO, Case, gradients
from test_equivalence import errors, read

BATCH = 96  # 4 ranks with 2 parts each still have whole groups of the minibatch deviation
LOSSES = ("r1", "barlow-twins", "dcl")
DOUBLE, SINGLE = 1e-12, 1e-5  # of each tensor's largest entry
# Adam divides by a gradient's size: an entry whose first gradient is a millionth of its tensor's has a millionth of the
# digits right. Few have; of all the others the bound holds for parameters too.
FEW, ENLARGED = 5, 1e-10
HEAD = "| engine | precision | ranks | parts | loss | first gradients | all gradients | parameters | entries above |"
ENGINES = [("fsdp2", "float64"), ("replicated", "float32"), *((name, "float32") for name in ZERO)]


def cases_of(world):
    """Replicated ranks in float64, and of two ranks every engine."""
    engines = [("replicated", "float64"), *(ENGINES if world == 2 else [])]
    return [Case(loss, BATCH, parts, *engine) for engine in engines for loss in LOSSES for parts in (1, 2)]


@pytest.fixture(scope="module")
def alone(shards, source, tmp_path_factory):
    """(loss, precision, by engine's optimiser or not) -> what one process computes in one part. Each once."""

    @cache
    def compute(loss, dtype, of_any_engine):
        case = Case(loss, BATCH, 1, "replicated", dtype)
        return gradients(case, shards, source, tmp_path_factory.mktemp("alone"), of_any_engine)[0]

    return compute


def over(bound, got, expected):
    """Entries that differ by more than the bound."""
    return int(((got - expected).abs() > bound * expected.abs().max()).sum())


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_gradients_and_parameters_equal_one_process_on_the_same_global_batch(world, alone, shards, source, tmp_path):
    cases = cases_of(world)
    if world == 1:
        cases = [case for case in cases if case.accumulate > 1]
        results = {case: gradients(case, shards, source, tmp_path)[0] for case in cases}
    else:
        ranks.run(world, equivalence.main, shards, source, tmp_path, *cases)
        results = {case: read(tmp_path, case, 0, world) for case in cases}
    lines, failed = [], []
    for case, got in results.items():
        expected = alone(case.scenario, case.dtype, case.of_any_engine)
        found = errors({**got, "labels": expected["labels"]}, expected)
        worst = [
            max(error for name, error in found.items() if name.startswith(kind))
            for kind in (("phase0/", "phase1/"), "phase", "after/")
        ]
        double = case.dtype == "float64"
        bound, after = DOUBLE if double else SINGLE, [name for name in expected if name.startswith("after/")]
        above = sum(over(bound, got[name], expected[name]) for name in after)
        what = (case.engine, case.dtype, world, case.accumulate, case.scenario)
        lines.append(f"| {' | '.join(map(str, (*what, *(f'{error:.1e}' for error in worst), above)))} |")
        well = max(worst[:2]) < DOUBLE and worst[2] < ENLARGED and above <= FEW if double else worst[0] < SINGLE
        if not well:
            failed.append(lines[-1])
    print("\n".join(["", HEAD, "|---|---|--:|--:|---|--:|--:|--:|--:|", *lines]))
    assert not failed, "\n".join(failed)
