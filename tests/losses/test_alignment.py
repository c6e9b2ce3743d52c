"""Self-alignment (Eq. 6): blocks are summed, each the mean of its absolute differences."""

from __future__ import annotations

import pytest
import torch

from hmgan.losses.alignment import alignment_loss


def features(seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, s, s, generator=g, dtype=torch.float64) for c, s in ((5, 4), (3, 8), (1, 16))]


def test_it_is_the_sum_over_blocks_of_the_mean_absolute_difference():
    a, b = features(0), features(1)
    naive = 0.0
    for x, y in zip(a, b, strict=True):
        differences = [abs(p - q) for p, q in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
        naive += sum(differences) / len(differences)
    assert float(alignment_loss(a, b)) == pytest.approx(naive, rel=1e-12)


def test_equal_features_cost_nothing():
    assert float(alignment_loss(features(0), features(0))) == 0


def test_a_missing_block_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        alignment_loss(features(0), features(1)[:2])
