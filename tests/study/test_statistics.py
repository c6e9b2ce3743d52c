"""Means, pooled deviations and outcomes against scipy and numpy, and on made-up scores whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hmgan.study.statistics import Outcome, compare, deviation, pooled, seeds_to_exclude, seeds_to_find

VALUES = [3.0, 1.0, 4.0, 1.0, 5.0]


def seeded(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_deviation_is_the_samples_and_one_value_has_none():
    mean = sum(VALUES) / len(VALUES)
    assert deviation(VALUES) == pytest.approx((sum((v - mean) ** 2 for v in VALUES) / (len(VALUES) - 1)) ** 0.5)
    assert deviation([2.0]) is None


def test_the_pooled_deviation_is_that_of_residuals_from_each_rows_own_mean():
    rows = [[1.0, 3.0], [10.0, 11.0, 15.0], [7.0]]
    residuals = np.concatenate([np.array(row) - np.mean(row) for row in rows])
    found = pooled(rows)
    assert found.freedom == 3
    assert found.deviation == pytest.approx(np.sqrt((residuals**2).sum() / 3))
    assert pooled([[1.0], [2.0]]).freedom == 0


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ([10.0, 11.0, 12.0], [20.0, 21.5, 22.0], Outcome.HOLDS),
        ([20.0, 21.5, 22.0], [10.0, 11.0, 12.0], Outcome.REVERSE),
        ([10.0, 20.0, 12.0], [11.0, 15.0, 18.0], Outcome.NO_DIFFERENCE),
        ([10.0, 10.0], [11.0, 11.0], Outcome.HOLDS),  # no spread at all
        ([10.0, 10.0], [10.0, 10.0], Outcome.NO_DIFFERENCE),
    ],
)
def test_of_two_rows_alone_the_outcome_is_that_of_students_unpaired_test(better, worse, expected):
    comparison = compare(seeded(better), seeded(worse), pooled([better, worse]), higher=False)
    assert comparison.outcome is expected
    assert comparison.difference == pytest.approx(np.mean(worse) - np.mean(better))
    if np.std(better) > 0:
        test = stats.ttest_ind(worse, better)
        low, high = test.confidence_interval(0.95)
        assert comparison.margin == pytest.approx((high - low) / 2)
        assert (test.pvalue < 0.05) == (expected is not Outcome.NO_DIFFERENCE)


def test_other_rows_make_the_variance_surer_and_so_decide_more():
    better, worse = [10.0, 11.0], [12.0, 13.0]
    others = [[50.0, 51.0], [70.0, 71.0], [90.0, 91.0], [20.0, 21.0]]
    alone = compare(seeded(better), seeded(worse), pooled([better, worse]), higher=False)
    among = compare(seeded(better), seeded(worse), pooled([better, worse, *others]), higher=False)
    assert (alone.outcome, among.outcome) == (Outcome.NO_DIFFERENCE, Outcome.HOLDS)


def test_rows_need_not_share_seeds_and_higher_scores_turn_the_sign():
    better, worse = {0: 0.9, 1: 0.8}, {5: 0.5, 6: 0.39, 7: 0.42}
    spread = pooled([list(better.values()), list(worse.values())])
    comparison = compare(better, worse, spread, higher=True)
    assert (comparison.outcome, comparison.seeds) == (Outcome.HOLDS, (2, 3))
    assert compare(better, worse, spread, higher=False).outcome is Outcome.REVERSE


def test_what_is_excluded_is_the_least_margin_at_which_both_one_sided_tests_reject():
    random = np.random.default_rng(0)
    a, b = (list(100 + 5 * random.standard_normal(12)) for _ in range(2))
    comparison = compare(seeded(a), seeded(b), pooled([a, b]), higher=False)
    assert comparison.outcome is Outcome.NO_DIFFERENCE
    assert comparison.verdict == f"no difference above {math.ceil(100 * comparison.bound)}%"
    delta = comparison.bound * np.mean(b)
    lower = stats.ttest_ind(np.array(a) + delta, b, alternative="greater").pvalue
    upper = stats.ttest_ind(np.array(a) - delta, b, alternative="less").pvalue
    assert max(lower, upper) == pytest.approx(0.05)


def test_one_seed_of_every_row_decides_nothing_and_none_is_nothing():
    comparison = compare({0: 1.0}, {0: 2.0}, pooled([[1.0], [2.0]]), higher=False)
    assert (comparison.outcome, comparison.difference, comparison.margin) == (Outcome.OPEN, 1.0, math.inf)
    assert comparison.verdict == "open: one seed"
    assert compare({0: 1.0}, {}, pooled([[1.0]]), higher=False) is None


@pytest.mark.parametrize(
    ("gap", "least", "most"), [(0.05, 51, 70), (0.1, 13, 18), (0.15, 6, 8), (0.2, 4, 5), (0.3, 2, 4)]
)
def test_seeds_of_a_nine_percent_deviation_are_those_of_the_power_tables(gap, least, most):
    assert least <= seeds_to_find(gap, 0.09) <= most


def test_as_many_seeds_as_are_asked_for_find_and_exclude_in_four_of_five_simulated_studies():
    random, sd = np.random.default_rng(1), 9.0

    def share(seeds: int, gap: float, accept) -> float:
        hits = 0
        for _ in range(600):
            a, b = list(random.normal(100 - gap, sd, seeds)), list(random.normal(100, sd, seeds))
            hits += accept(compare(seeded(a), seeded(b), pooled([a, b]), higher=False))
        return hits / 600

    found = share(seeds_to_find(10, sd), 10, lambda c: c.outcome is Outcome.HOLDS)
    excluded = share(seeds_to_exclude(10, sd), 0, lambda c: c.bound * 100 < 10)
    assert 0.75 < found < 0.88
    assert 0.73 < excluded < 0.88
    assert seeds_to_find(0, sd) is None
