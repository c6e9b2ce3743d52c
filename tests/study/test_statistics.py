"""Means, deviations and verdicts against the standard library and scipy, and on made-up scores."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from hmgan.study.statistics import Verdict, compare, deviation

VALUES = [3.0, 1.0, 4.0, 1.0, 5.0]


def test_a_deviation_is_the_samples_and_one_value_has_none():
    mean = sum(VALUES) / len(VALUES)
    assert deviation(VALUES) == pytest.approx((sum((v - mean) ** 2 for v in VALUES) / (len(VALUES) - 1)) ** 0.5)
    assert deviation([2.0]) is None


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([10.0, 11.0, 12.0], [20.0, 21.5, 22.0], Verdict.HOLDS),
        ([20.0, 21.5, 22.0], [10.0, 11.0, 12.0], Verdict.FAILS),
        ([10.0, 20.0, 12.0], [11.0, 15.0, 18.0], Verdict.NOISE),
        ([10.0, 10.0], [11.0, 11.0], Verdict.HOLDS),  # no spread at all
        ([10.0, 10.0], [10.0, 10.0], Verdict.NOISE),
    ],
)
def test_a_verdict_is_the_paired_t_test_at_95_percent(better, worse, verdict):
    outcome = compare(dict(enumerate(better)), dict(enumerate(worse)), higher=False)
    assert outcome.verdict is verdict
    gaps = [b - a for a, b in zip(better, worse, strict=True)]
    assert outcome.difference == pytest.approx(statistics.mean(gaps))
    if statistics.stdev(gaps):
        low, high = stats.t.interval(0.95, len(gaps) - 1, statistics.mean(gaps), stats.sem(gaps))
        assert outcome.margin == pytest.approx((high - low) / 2)
        assert (stats.ttest_rel(worse, better).pvalue < 0.05) == (verdict is not Verdict.NOISE)


def test_only_shared_seeds_are_compared_and_pairing_takes_out_what_seeds_have_in_common():
    better, worse = {0: 10.0, 1: 110.0, 2: 1010.0, 5: 0.0}, {0: 11.0, 1: 111.1, 2: 1010.9, 7: 0.0}
    outcome = compare(better, worse, higher=False)
    assert outcome.seeds == (0, 1, 2)
    assert outcome.verdict is Verdict.HOLDS


def test_where_more_is_better_the_sign_turns():
    assert compare({0: 0.9, 1: 0.8}, {0: 0.5, 1: 0.39}, higher=True).verdict is Verdict.HOLDS


def test_one_seed_decides_nothing_and_none_is_nothing():
    outcome = compare({0: 1.0}, {0: 2.0}, higher=False)
    assert (outcome.verdict, outcome.difference, outcome.margin) == (Verdict.OPEN, 1.0, math.inf)
    assert compare({0: 1.0}, {1: 2.0}, higher=False) is None
