"""Intervals of shares against scipy, against their definition, and by how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest

from hmgan.metrics.intervals import of_mean, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 50), (3, 100), (50, 50), (211, 500)])
def test_a_shares_interval_is_wilsons(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_mean_of_one_share_keeps_its_interval_and_of_four_equal_ones_has_half() -> None:
    own = wilson(0.3, 100)
    assert of_mean([0.3], [own]) == pytest.approx(own)
    assert of_mean([0.3] * 4, [own] * 4) == pytest.approx((0.3 - (0.3 - own.low) / 2, 0.3 + (own.high - 0.3) / 2))


def test_nineteen_intervals_of_a_mean_in_twenty_hold_the_true_mean() -> None:
    random, shares, count = np.random.default_rng(0), np.array([0.02, 0.1, 0.5, 0.8]), 100
    held = 0
    for _ in range(1000):
        seen = random.binomial(count, shares) / count
        low, high = of_mean(list(seen), [wilson(share, count) for share in seen])
        held += low <= shares.mean() <= high
    assert 0.93 < held / 1000 < 0.975
