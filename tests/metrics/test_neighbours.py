"""Precision, recall, density and coverage against naive loops, and on sets whose answer is known."""

import resource
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.metrics import neighbours
from hmgan.metrics.neighbours import neighbour_scores


def normal(n: int, f: int, seed: int) -> Tensor:
    return torch.randn(n, f, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def radius_by_loop(points: Tensor, i: int, k: int) -> float:
    return sorted(float((points[i] - points[j]).norm()) for j in range(len(points)) if j != i)[k - 1]


def naive(real: Tensor, fake: Tensor, k: int) -> tuple[float, float, float, float]:
    n, m = len(real), len(fake)
    r_real = [radius_by_loop(real, i, k) for i in range(n)]
    r_fake = [radius_by_loop(fake, j, k) for j in range(m)]
    gap = [[float((real[i] - fake[j]).norm()) for j in range(m)] for i in range(n)]
    precision = sum(any(gap[i][j] <= r_real[i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(gap[i][j] <= r_fake[j] for j in range(m)) for i in range(n)) / n
    density = sum(gap[i][j] <= r_real[i] for i in range(n) for j in range(m)) / (k * m)
    coverage = sum(min(gap[i]) <= r_real[i] for i in range(n)) / n
    return precision, recall, density, coverage


@pytest.mark.parametrize(("n", "m"), [(25, 18), (12, 30)])
def test_all_four_equal_loops_for_every_k_also_over_ragged_tiles(n: int, m: int, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 7)
    monkeypatch.setattr(neighbours, "COLUMNS", 5)
    real, fake = normal(n, 3, 0), normal(m, 3, 1) * 0.5 + 1.2
    found = neighbour_scores(real, fake, (3, 5))
    for k in (3, 5):
        assert tuple(found[k]) == pytest.approx(naive(real, fake, k), abs=1e-12)
        assert 0 < found[k].precision != found[k].recall > 0


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    real, fake = normal(40, 4, 0), normal(40, 4, 1) * 0.5
    ours, swapped = neighbour_scores(real, fake, [3])[3], neighbour_scores(fake, real, [3])[3]
    assert (ours.precision, ours.recall) == (swapped.recall, swapped.precision)
    assert ours.precision > ours.recall


def test_identical_fakes_on_the_manifold_are_precise_and_recall_next_to_nothing() -> None:
    real = normal(50, 8, 0)
    scores = neighbour_scores(real, real[:1].expand(30, 8), [3])[3]
    assert scores.precision == 1
    assert scores.recall == 1 / 50  # the one real image that they repeat
    assert scores.coverage < 0.5
    beside = neighbour_scores(real, real[:1].expand(30, 8) + 1e-3, [3])[3]
    assert (beside.precision, beside.recall) == (1, 0)


def test_copies_of_the_reals_are_perfect_although_every_neighbour_is_a_tie() -> None:
    """Far from the origin, where rounding would break the ties."""
    real = normal(40, 16, 0) * 0.1 + 100
    scores = neighbour_scores(real, real.flip(0), [5])[5]
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    assert scores.density == pytest.approx(6 / 5)  # the ball's centre, and all k on and inside its border


def test_a_grids_ties_are_inside() -> None:
    """Neighbours at distance exactly 1, and fakes exactly that far: `<` would count none."""
    real = torch.arange(6.0)[:, None]
    fake = real + 6.0
    scores = neighbour_scores(real, fake, [1])[1]
    assert (scores.precision, scores.recall) == (1 / 6, 1 / 6)


def test_fakes_far_away_score_zero_and_equal_distributions_have_density_one() -> None:
    real = normal(300, 4, 0)
    assert tuple(neighbour_scores(real, real + 1e4, [5])[5]) == (0, 0, 0, 0)
    same = neighbour_scores(real, normal(300, 4, 1), [5])[5]
    assert same.density == pytest.approx(1, abs=0.1)
    assert same.coverage > 0.9


def test_float32_features_score_as_the_same_numbers_in_float64() -> None:
    real, fake = normal(60, 8, 0).float(), normal(50, 8, 1).float()
    assert neighbour_scores(real, fake, [3, 5]) == neighbour_scores(real.double(), fake.double(), [3, 5])


@pytest.mark.slow
def test_no_whole_matrix_of_distances_is_held() -> None:
    """20,000 squared float64 distances would be 3.2 GB."""
    code = (
        "import torch; from hmgan.metrics.neighbours import neighbour_scores\n"
        "neighbour_scores(torch.randn(20_000, 32), torch.randn(20_000, 32), [3, 5])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1.5 * 2**20  # KiB


def test_wrong_k_and_small_or_mixed_sets_are_user_errors() -> None:
    real = normal(5, 4, 0)
    with pytest.raises(UserError, match="k = 5 needs 6 real samples or more, got 5; add images"):
        neighbour_scores(real, normal(9, 4, 1), [3, 5])
    with pytest.raises(UserError, match=r"k counts neighbours and must be at least 1, got \[0\]"):
        neighbour_scores(real, real, [0])
    with pytest.raises(UserError, match="got 4 real, 3 fake; use one extractor for both"):
        neighbour_scores(real, normal(5, 3, 1), [3])
