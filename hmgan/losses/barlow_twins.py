"""Barlow Twins (Zbontar et al. 2021) on the discriminator's embedding. B batch over all ranks, F features."""

from __future__ import annotations

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
    corr_FF = standardize(a_BF).T @ standardize(b_BF) / len(a_BF)
    on_F = corr_FF.diagonal()
    return (on_F - 1).square().sum() + off_diagonal * (corr_FF.square().sum() - on_F.square().sum())


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

    def __init__(self, *, weight: Weight = 1e-3, off_diagonal: Weight = 5e-3) -> None:
        super().__init__()
        self.weight, self.off_diagonal = weight, off_diagonal

    def forward(self, evidence: Evidence) -> Tensor:
        real, fake = (redundancy(*pair, self.off_diagonal) for pair in evidence.views())
        return real + fake
