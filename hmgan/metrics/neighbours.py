"""Precision, recall, density, coverage: who lies in whose k-th-neighbour balls. N real, M fake, F features, K ks.

Sets are compared tile by tile, never as a whole [N, M] matrix: 50,000 x 2048 features take 200 MB beside themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.metrics.distances import check_sets

ROWS, COLUMNS = 1024, 4096
# float64 products of 2048 features err by about 1e-14 of the squared norms: ties within this count as ties.
TIE = 1e-12
COMPARISON = "inside: distance <= radius"


class Neighbours(NamedTuple):
    """All in 0..1 but density, which has no upper bound and is 1 in expectation for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(real_NF: Tensor, fake_MF: Tensor, ks: Sequence[int]) -> dict[int, Neighbours]:
    """The four scores for each k, in one pass.

    A set's manifold is the union of balls around its samples, each reaching to its sample's k-th nearest neighbour in
    the same set, the sample itself not counted; a point on the border is inside (Kynkaanniemi et al. 2019, Eq. 1).
    precision: the share of fakes inside the reals' manifold; recall: the share of reals inside the fakes' (Eq. 2, k = 3
    there). density: how many balls of reals a fake lies in, on average, over k; coverage: the share of reals whose own
    ball holds a fake (Naeem et al. 2020, Eq. 3 and 4, k = 5 there).

    Raises: UserError unless both sets have more than k samples of one size.
    """
    if not ks or min(ks) < 1:
        raise UserError(f"k counts neighbours and must be at least 1, got {list(ks)}")
    check_sets(real_NF, fake_MF, max(ks) + 1, f"k = {max(ks)}")
    ks_K = torch.tensor(ks, device=real_NF.device)
    # Distances ignore a common shift; the rounding of products does not.
    centre_F = real_NF.double().mean(dim=0)
    real_radius_NK = nearest_squares(real_NF, max(ks), centre_F)[:, ks_K - 1]
    fake_radius_MK = nearest_squares(fake_MF, max(ks), centre_F)[:, ks_K - 1]
    recalled_K, covered_K = torch.zeros(2, len(ks), dtype=torch.long, device=real_NF.device)
    held_MK = recalled_K.new_zeros(len(fake_MF), len(ks))
    for rows in _spans(len(real_NF), ROWS):
        recalled_RK = torch.zeros_like(real_radius_NK[rows], dtype=torch.bool)
        covered_RK = recalled_RK.clone()
        for columns in _spans(len(fake_MF), COLUMNS):
            # The allowance for ties is taken off the distance once, not added to every radius.
            lower_RC = _squares(real_NF[rows], fake_MF[columns], centre_F, TIE)
            for j in range(len(ks)):
                in_real_RC = lower_RC <= real_radius_NK[rows, None, j]
                held_MK[columns, j] += in_real_RC.sum(dim=0)
                covered_RK[:, j] |= in_real_RC.any(dim=1)
                recalled_RK[:, j] |= (lower_RC <= fake_radius_MK[None, columns, j]).any(dim=1)
        recalled_K += recalled_RK.sum(dim=0)
        covered_K += covered_RK.sum(dim=0)
    n, m = len(real_NF), len(fake_MF)
    return {
        k: Neighbours(
            precision=int((held_MK[:, j] > 0).sum()) / m,
            recall=int(recalled_K[j]) / n,
            density=int(held_MK[:, j].sum()) / (k * m),
            coverage=int(covered_K[j]) / n,
        )
        for j, k in enumerate(ks)
    }


def nearest_squares(points_NF: Tensor, k: int, centre_F: Tensor) -> Tensor:
    """[N, k] squared distances of every point to its k nearest others, ascending."""
    found = []
    for rows in _spans(len(points_NF), ROWS):
        best_Rk = torch.empty(len(points_NF[rows]), 0, dtype=torch.float64, device=points_NF.device)
        for columns in _spans(len(points_NF), COLUMNS):
            best_Rk = torch.cat([best_Rk, _squares(points_NF[rows], points_NF[columns], centre_F)], dim=1)
            # k + 1, for the point itself is among them, at 0.
            best_Rk = best_Rk.topk(min(k + 1, best_Rk.shape[1]), largest=False).values
        found.append(best_Rk[:, 1:])
    return torch.cat(found)


def _squares(a_RF: Tensor, b_CF: Tensor, centre_F: Tensor, allowance: float = 0.0) -> Tensor:
    """[R, C] squared distances in float64, less `allowance` times the squared norms."""
    a_RF, b_CF = a_RF.double() - centre_F, b_CF.double() - centre_F
    norms_RC = a_RF.square().sum(dim=1)[:, None] + b_CF.square().sum(dim=1)
    return torch.addmm(norms_RC.mul_(1 - allowance), a_RF, b_CF.T, alpha=-2).clamp_(min=0)


def _spans(count: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, count, size)]
