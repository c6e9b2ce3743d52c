from __future__ import annotations

import pytest
import torch

from hmgan.errors import UserError
from hmgan.modulation.clusters import k_means


def clouds(each: int = 30) -> torch.Tensor:
    """Three far apart, in this order."""
    random = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return torch.cat([centre + torch.randn(each, 2, generator=random) for centre in centres])


@pytest.mark.parametrize("seed", range(5))
def test_clouds_far_apart_are_found_from_any_seed(seed):
    points = clouds()
    found = k_means(points, 3, seed)
    expected = torch.stack([cloud.mean(0) for cloud in points.chunk(3)])
    nearest = torch.cdist(expected, found.centre_KD).argmin(1)
    assert sorted(nearest.tolist()) == [0, 1, 2]
    torch.testing.assert_close(found.centre_KD[nearest], expected)
    torch.testing.assert_close(found.share_K, torch.full((3,), 1 / 3))


def test_the_same_seed_finds_the_same_clusters_whatever_else_draws():
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    first = k_means(points, 7, 3)
    torch.manual_seed(99)
    again = k_means(points, 7, 3)
    assert torch.equal(first.centre_KD, again.centre_KD)
    assert torch.equal(first.share_K, again.share_K)
    assert not torch.equal(first.centre_KD, k_means(points, 7, 4).centre_KD)


def test_every_centre_is_the_mean_of_the_points_nearest_to_it():
    points = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = k_means(points, 7, 0)
    label = [min(range(7), key=lambda k: float((point - found.centre_KD[k]).norm())) for point in points]
    for k in range(7):
        own = points[[i for i, of in enumerate(label) if of == k]]
        torch.testing.assert_close(found.centre_KD[k], own.mean(0))
        assert found.share_K[k].item() == pytest.approx(len(own) / 200)
    torch.testing.assert_close(found.share_K.double() @ found.centre_KD, points.mean(0), atol=1e-6, rtol=1e-6)


def test_points_that_are_all_one_make_one_cluster_and_empty_ones():
    found = k_means(torch.ones(6, 2), 3, 0)
    assert found.centre_KD.isfinite().all()
    assert found.share_K.sort(descending=True).values.tolist() == [1, 0, 0]


@pytest.mark.parametrize("clusters", [0, 7])
def test_more_clusters_than_points_or_none_are_refused(clusters):
    with pytest.raises(UserError, match=f"^clusters must be 1 to 6, one per point at most, got {clusters}$"):
        k_means(torch.ones(6, 2), clusters, 0)
