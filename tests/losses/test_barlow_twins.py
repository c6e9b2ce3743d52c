"""Barlow Twins (Eq. 7) against loops over features."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan.errors import UserError
from hmgan.losses.barlow_twins import BarlowTwins, redundancy, redundancy_by_sums, redundancy_of_many
from hmgan.losses.base import Evidence

EPSILON = 1e-5  # of a batch norm


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(a_BF, b_BF, off_diagonal):
    """Eq. 7, number by number."""

    def standard(x_BF):
        columns = []
        for column in x_BF.T.tolist():
            mean = sum(column) / len(column)
            var = sum((x - mean) ** 2 for x in column) / len(column)
            columns.append([(x - mean) / math.sqrt(var + EPSILON) for x in column])
        return columns

    a, b = standard(a_BF), standard(b_BF)
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            c = sum(x * y for x, y in zip(a[i], b[j], strict=True)) / len(a[i])
            total += (c - 1) ** 2 if i == j else off_diagonal * c**2
    return total


@pytest.mark.parametrize("off_diagonal", [5e-3, 0.0, 1.0])
@pytest.mark.parametrize(("batch", "width"), [(2, 3), (7, 5), (3, 8)])
def test_it_equals_the_loops(batch, width, off_diagonal):
    a, b = normal(batch, width), normal(batch, width, seed=1)
    assert float(redundancy(a, b, off_diagonal)) == pytest.approx(naive(a, b, off_diagonal), rel=1e-9)


def test_the_terms_are_sums_not_means():
    # Independent features: C is near 0 everywhere, so that the diagonal alone costs 1 per feature.
    a, b = normal(100_000, 16), normal(100_000, 16, seed=1)
    assert float(redundancy(a, b, 0.0)) == pytest.approx(16, rel=0.01)
    # One feature repeated: C is 1 everywhere, so that only the off-diagonal costs, 1 per pair.
    repeated = normal(64, 1).repeat(1, 16)
    assert float(redundancy(repeated, repeated, 1.0)) == pytest.approx(16 * 15, rel=1e-3)


def test_identical_views_of_independent_features_cost_nothing_but_the_redundancy():
    # Columns of an orthogonal matrix with its first, constant one left out: zero mean, uncorrelated.
    size = 16
    basis = torch.linalg.qr(torch.cat([torch.ones(size, 1, dtype=torch.float64), normal(size, 7)], 1))[0][:, 1:]
    assert float(redundancy(100 * basis, 100 * basis, 1.0)) == pytest.approx(0, abs=1e-9)
    assert float(redundancy(100 * basis, -100 * basis, 1.0)) == pytest.approx(7 * 4)


def test_scale_and_offset_of_a_feature_change_nothing():
    a, b = 10 * normal(6, 4), 10 * normal(6, 4, seed=1)
    scale, offset = 2 + normal(4, seed=2).abs(), normal(4, seed=3)
    torch.testing.assert_close(redundancy(a * scale + offset, b, 0.1), redundancy(a, b, 0.1), rtol=1e-5, atol=0)


def test_the_gradient_reaches_both_views():
    a, b = normal(5, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: redundancy(x, y, 0.1), (a, b))


def test_a_feature_that_does_not_vary_stays_finite():
    a = normal(5, 4)
    a[:, 2] = 3.0
    assert float(redundancy(a, a, 5e-3)) == pytest.approx(naive(a, a, 5e-3), rel=1e-9)


def test_one_sample_is_refused():
    with pytest.raises(UserError) as caught:
        redundancy(normal(1, 4), normal(1, 4), 5e-3)
    assert str(caught.value) == "barlow-twins needs 2 samples or more, got 1; raise train.batch"


def test_real_and_fake_views_count_alike_and_apart():
    views = [normal(6, 4, seed=i) for i in range(4)]
    logits = normal(6)
    loss = BarlowTwins(off_diagonal=0.1)
    got = loss(Evidence(logits, logits, lambda: ((views[0], views[1]), (views[2], views[3]))))
    expected = naive(views[0], views[1], 0.1) + naive(views[2], views[3], 0.1)
    assert float(got) == pytest.approx(expected, rel=1e-9)
    # The logits take no part in it.
    again = loss(Evidence(2 * logits, -logits, lambda: ((views[0], views[1]), (views[2], views[3]))))
    assert torch.equal(got, again)


def test_the_default_weight_of_the_redundancy_is_the_papers():
    assert BarlowTwins().off_diagonal == 5e-3


@pytest.mark.parametrize("features", [3, 40])
def test_by_samples_or_by_features_it_is_the_same(features):
    a, b = (normal(6, features, seed=seed) for seed in range(2))
    torch.testing.assert_close(redundancy_of_many(a, b, 0.3), redundancy(a, b, 0.3))


def test_by_sums_of_one_rank_it_is_the_same_even_far_from_zero():
    a, b = 1e4 + normal(6, 4), normal(6, 4, seed=1)
    by_sums = redundancy_by_sums(a, b, 0.3, total=lambda x: x)
    torch.testing.assert_close(by_sums, redundancy(a, b, 0.3), rtol=1e-10, atol=0.0)
