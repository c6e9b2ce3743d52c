"""k-means, seeded: the same points and seed give the same clusters. N points, K clusters, D features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmgan import rng
from hmgan.errors import UserError


class Clusters(NamedTuple):
    """What k-means finds."""

    centre_KD: Tensor  # the mean of each cluster's points
    share_K: Tensor  # each one's fraction of the points; sum_k share_k * centre_k is the mean of all points


def k_means(points_ND: Tensor, clusters: int, seed: int, rounds: int = 100) -> Clusters:
    """Lloyd's algorithm from k-means++ centres (Arthur and Vassilvitskii 2007), until no point changes its cluster.

    Raises: UserError unless there are 1 to N clusters.
    """
    if not 1 <= clusters <= len(points_ND):
        raise UserError(f"clusters must be 1 to {len(points_ND)}, one per point at most, got {clusters}")
    centre_KD = _spread_out(points_ND, clusters, rng.generator(seed))
    label_N = torch.full((len(points_ND),), -1, device=points_ND.device)
    count_K = torch.zeros(clusters, dtype=torch.long, device=points_ND.device)
    for _ in range(rounds):
        nearest_N = torch.cdist(points_ND, centre_KD).argmin(1)
        if torch.equal(nearest_N, label_N):
            break
        label_N = nearest_N
        count_K = torch.bincount(label_N, minlength=clusters)
        sum_KD = torch.zeros_like(centre_KD).index_add(0, label_N, points_ND)
        # A cluster that lost all its points stays where it was.
        centre_KD = torch.where(count_K[:, None] > 0, sum_KD / count_K.clamp(min=1)[:, None], centre_KD)
    return Clusters(centre_KD, count_K.to(points_ND) / len(points_ND))


def _spread_out(points_ND: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: each next centre is a point drawn in proportion to its squared distance from those before it."""
    chosen = [int(torch.randint(len(points_ND), (1,), generator=generator))]
    while len(chosen) < clusters:
        gap_N = torch.cdist(points_ND, points_ND[chosen]).amin(1).square()
        # Where all points are centres already, any will do.
        weight_N = gap_N if bool(gap_N.sum() > 0) else torch.ones_like(gap_N)
        chosen.append(int(torch.multinomial(weight_N, 1, generator=generator)))
    return points_ND[chosen]
