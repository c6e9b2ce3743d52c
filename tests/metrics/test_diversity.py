"""Rank and spread against numpy and loops, and on sets whose answers are known."""

import numpy as np
import pytest
import torch

from hmgan.errors import UserError
from hmgan.metrics.diversity import effective_rank, intra_class_distance, spread


def normal(n: int, f: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "f"), [(40, 6), (6, 40)])
def test_the_rank_is_that_of_the_covariances_eigenvalues(n: int, f: int) -> None:
    x = normal(n, f) * torch.linspace(0.1, 3, f) + 7
    variances = np.linalg.eigvalsh(np.cov(x.numpy().T))
    assert effective_rank(x) == pytest.approx(variances.sum() ** 2 / (variances**2).sum())


def test_samples_in_three_directions_have_rank_three_wherever_they_lie() -> None:
    axes = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    turned = axes @ torch.linalg.qr(normal(64, 3)).Q.T + 5
    assert effective_rank(turned) == pytest.approx(3)
    assert effective_rank(turned[:1] + torch.arange(5)[:, None] * turned[1]) == pytest.approx(1)


def test_one_image_repeated_has_no_rank_and_no_spread() -> None:
    one = normal(1, 512).expand(100, -1)
    assert effective_rank(one) == 0
    assert spread(normal(100, 512), one) == 0


def test_the_spread_is_a_ratio_of_mean_distances_over_all_pairs() -> None:
    real, fake = normal(9, 4), 0.5 * normal(7, 4, seed=1)

    def naive(x: torch.Tensor) -> float:
        return float(np.mean([float((x[i] - x[j]).norm()) for i in range(len(x)) for j in range(i)]))

    assert intra_class_distance(fake) == pytest.approx(naive(fake))
    assert spread(real, fake) == pytest.approx(naive(fake) / naive(real))
    assert spread(real, real * 0.25 + 3) == pytest.approx(0.25)


def test_k_images_repeated_equally_have_the_spread_of_k_with_the_pairs_of_copies_at_zero() -> None:
    three = normal(3, 8)
    share = intra_class_distance(three.repeat(20, 1)) / intra_class_distance(three)
    assert share == pytest.approx(1 - 3 * (20 * 19 / 2) / (60 * 59 / 2))


def test_reals_that_are_one_image_leave_nothing_to_lack_and_one_sample_is_a_user_error() -> None:
    with pytest.raises(UserError, match="a rank needs 2 samples or more, got 1"):
        effective_rank(normal(1, 3))
    assert spread(normal(1, 3).expand(4, -1), normal(4, 3)) == 1
