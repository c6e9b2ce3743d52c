"""Barlow Twins (Zbontar et al. 2021) on the discriminator's embedding. B batch over all ranks, F features."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.losses.base import Evidence
from hmgan.types import Weight


def standardize(x_BF: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Zero mean and unit biased variance over the batch, as a batch norm without affine parameters."""
    var_F, mean_F = torch.var_mean(x_BF, 0, correction=0)
    return (x_BF - mean_F) * torch.rsqrt(var_F + epsilon)


def redundancy(a_BF: Tensor, b_BF: Tensor, off_diagonal: float) -> Tensor:
    """sum_i (C_ii - 1)^2 + lambda * sum_{i != j} C_ij^2 with C = a^T b / B of standardised embeddings, Eq. 7."""
    if len(a_BF) < 2:
        raise UserError(f"barlow-twins needs 2 samples or more, got {len(a_BF)}; raise train.batch")
    return _of_correlation(standardize(a_BF).T @ standardize(b_BF) / len(a_BF), off_diagonal)


def _of_correlation(corr_FF: Tensor, off_diagonal: float) -> Tensor:
    on_F = corr_FF.diagonal()
    return (on_F - 1).square().sum() + off_diagonal * (corr_FF.square().sum() - on_F.square().sum())


def redundancy_by_sums(
    a_BF: Tensor, b_BF: Tensor, off_diagonal: float, total: Callable[[Tensor], Tensor], epsilon: float = 1e-5
) -> Tensor:
    """The same of all ranks' samples from one rank's: F x F sums travel, however many samples there are.

    Means first: squares less a squared mean would lose the variance of features far from zero.

    Args:
        total: the sum over ranks.
    """
    sums_3F = total(torch.stack([a_BF.sum(0), b_BF.sum(0), torch.full_like(a_BF[0], len(a_BF))]))
    count_F = sums_3F[2]
    a_BF, b_BF = a_BF - sums_3F[0] / count_F, b_BF - sums_3F[1] / count_F
    products = a_BF.T @ b_BF, a_BF.square().sum(0, keepdim=True), b_BF.square().sum(0, keepdim=True)
    covariance_FF, var_a_1F, var_b_1F = (total(torch.cat(products)) / count_F).split([len(count_F), 1, 1])
    scale_a_1F, scale_b_1F = torch.rsqrt(var_a_1F + epsilon), torch.rsqrt(var_b_1F + epsilon)
    return _of_correlation(scale_a_1F.T * covariance_FF * scale_b_1F, off_diagonal)


def redundancy_of_many(a_BF: Tensor, b_BF: Tensor, off_diagonal: float) -> Tensor:
    """The same from products of samples, [B, B], for many more features than samples: |a^T b|^2 = <a a^T, b b^T>."""
    a_BF, b_BF = standardize(a_BF), standardize(b_BF)
    on_F = (a_BF * b_BF).mean(0)
    all_squared = ((a_BF @ a_BF.T) * (b_BF @ b_BF.T)).sum() / len(a_BF) ** 2
    return (on_F - 1).square().sum() + off_diagonal * (all_squared - on_F.square().sum())


@register("contrastive", "barlow-twins")
class BarlowTwins(nn.Module):
    """Redundancy reduction between two views, of the real images and, separately, of the fakes (Eq. 7).

    Args:
        weight: lambda_contr of Eq. 9.
        off_diagonal: lambda, the weight of the redundancy term.

    Raises: UserError if the global batch has fewer than 2 samples, where a feature has no variance.
    """

    by_sums: ClassVar = True

    def __init__(self, *, weight: Weight = 1e-3, off_diagonal: Weight = 5e-3) -> None:
        super().__init__()
        self.weight, self.off_diagonal = weight, off_diagonal

    def forward(self, evidence: Evidence) -> Tensor:
        if evidence.total is None:
            real, fake = (redundancy(*pair, self.off_diagonal) for pair in evidence.views())
        else:
            real, fake = (redundancy_by_sums(*p, self.off_diagonal, evidence.total) for p in evidence.views())
        return real + fake
