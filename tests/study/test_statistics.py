"""Means, deviations and outcomes against the standard library and scipy, and on made-up scores."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from hmgan.study.statistics import Outcome, compare, deviation

VALUES = [3.0, 1.0, 4.0, 1.0, 5.0]


def test_a_deviation_is_the_samples_and_one_value_has_none():
    mean = sum(VALUES) / len(VALUES)
    assert deviation(VALUES) == pytest.approx((sum((v - mean) ** 2 for v in VALUES) / (len(VALUES) - 1)) ** 0.5)
    assert deviation([2.0]) is None


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ([10.0, 11.0, 12.0], [20.0, 21.5, 22.0], Outcome.HOLDS),
        ([20.0, 21.5, 22.0], [10.0, 11.0, 12.0], Outcome.FAILS),
        ([10.0, 20.0, 12.0], [11.0, 15.0, 18.0], Outcome.NOISE),
        ([10.0, 10.0], [11.0, 11.0], Outcome.HOLDS),  # no spread at all
        ([10.0, 10.0], [10.0, 10.0], Outcome.NOISE),
    ],
)
def test_an_outcome_is_that_of_the_paired_t_test_at_95_percent(better, worse, expected):
    comparison = compare(dict(enumerate(better)), dict(enumerate(worse)), higher=False)
    assert comparison.outcome is expected
    gaps = [b - a for a, b in zip(better, worse, strict=True)]
    assert comparison.difference == pytest.approx(statistics.mean(gaps))
    if statistics.stdev(gaps):
        low, high = stats.t.interval(0.95, len(gaps) - 1, statistics.mean(gaps), stats.sem(gaps))
        assert comparison.margin == pytest.approx((high - low) / 2)
        assert (stats.ttest_rel(worse, better).pvalue < 0.05) == (expected is not Outcome.NOISE)


def test_only_shared_seeds_are_compared_and_pairing_takes_out_what_seeds_have_in_common():
    better, worse = {0: 10.0, 1: 110.0, 2: 1010.0, 5: 0.0}, {0: 11.0, 1: 111.1, 2: 1010.9, 7: 0.0}
    comparison = compare(better, worse, higher=False)
    assert comparison.seeds == (0, 1, 2)
    assert comparison.outcome is Outcome.HOLDS


def test_where_more_is_better_the_sign_turns():
    assert compare({0: 0.9, 1: 0.8}, {0: 0.5, 1: 0.39}, higher=True).outcome is Outcome.HOLDS


def test_one_seed_decides_nothing_and_none_is_nothing():
    comparison = compare({0: 1.0}, {0: 2.0}, higher=False)
    assert (comparison.outcome, comparison.difference, comparison.margin) == (Outcome.OPEN, 1.0, math.inf)
    assert compare({0: 1.0}, {1: 2.0}, higher=False) is None
