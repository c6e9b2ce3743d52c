"""Distances between two sets of features, in float64. N real, M fake, F features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmgan import rng
from hmgan.errors import UserError

SUBSET_SEED = 0
TILE = 2048


class _Identity(nn.Module):
    """In place of torchmetrics' own Inception, which would need torch-fidelity; `num_features` is what it looks for."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features_NF: Tensor) -> Tensor:
        return features_NF


def frechet_distance(real_NF: Tensor, fake_MF: Tensor) -> float:
    """|mu_r - mu_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2)) of the sets' Gaussians (Heusel et al. 2017, Eq. 6).

    Exact to about 1e-7 of the traces, and to rounding where a set has fewer samples than features.

    Raises: UserError with fewer than 2 samples in a set, or features of two sizes.
    """
    check_sets(real_NF, fake_MF, 2, "a distance")
    if min(len(real_NF), len(fake_MF)) < real_NF.shape[1]:
        return _frechet_of_few(real_NF.double(), fake_MF.double())
    # Here, where it is used: with what it imports it would double the time that a training takes to start.
    from torchmetrics.image.fid import FrechetInceptionDistance

    # torchmetrics subtracts n mu mu^T from the sum of squares. The distance ignores a common shift; the rounding of
    # that subtraction does not.
    shift_F = real_NF.double().mean(dim=0)
    # sync_on_compute: the sets are complete on this rank, and a collective call here would hang the others.
    metric = FrechetInceptionDistance(feature=_Identity(real_NF.shape[1]), sync_on_compute=False)
    metric.to(real_NF.device).set_dtype(torch.float64)
    metric.update(real_NF.double() - shift_F, real=True)
    metric.update(fake_MF.double() - shift_F, real=False)
    # A distance is not negative; round-off on equal sets is, by about -1e-6.
    return max(float(metric.compute()), 0.0)


def _frechet_of_few(real_NF: Tensor, fake_MF: Tensor) -> float:
    """The same through samples: for C_r = X'X and C_f = Y'Y, tr (C_r C_f)^(1/2) is the sum of XY's singular values.

    Of two images a class in 512 dimensions it takes a millisecond, and the roots of F x F matrices a second.
    """
    mean_F, other_F = real_NF.mean(dim=0), fake_MF.mean(dim=0)
    x_NF, y_MF = (real_NF - mean_F) / (len(real_NF) - 1) ** 0.5, (fake_MF - other_F) / (len(fake_MF) - 1) ** 0.5
    traces = x_NF.square().sum() + y_MF.square().sum()
    distance = (mean_F - other_F).square().sum() + traces - 2 * torch.linalg.matrix_norm(x_NF @ y_MF.T, "nuc")
    return max(float(distance), 0.0)


class KernelSubsets(NamedTuple):
    """The estimate over subsets."""

    mean: float
    std: float  # over the subsets, with their number as the divisor
    size: int  # samples of each side in a subset


def kernel_distance(real_NF: Tensor, fake_MF: Tensor) -> float:
    """Unbiased MMD^2 under (x.y / F + 1)^3 over the full sets (Binkowski et al. 2018, Eq. 4): no subsets, no spread.

    Every sample counts, also where N and M differ. It may be slightly negative, being unbiased. Sets are multiplied
    tile by tile, never whole: 50,000 x 2048 features take 100 MB beside themselves.

    Raises: UserError with fewer than 2 samples in a set, or features of two sizes.
    """
    check_sets(real_NF, fake_MF, 2, "a distance")
    within = 0.0
    for x_NF in (real_NF, fake_MF):
        itself = _kernel(x_NF.double().square().sum(dim=1), x_NF)  # each sample with itself does not count
        within += (_kernel_sum(x_NF, x_NF) - itself) / (len(x_NF) * (len(x_NF) - 1))
    return within - 2 * _kernel_sum(real_NF, fake_MF) / (len(real_NF) * len(fake_MF))


def scaled_kernel_distance(real_NF: Tensor, fake_MF: Tensor) -> float:
    """The same of features less the reals' mean, over the root of the reals' mean square then.

    Uncentred, x.y / F is tens for most extractors, and its cube is decided by the few images with large features.

    Raises: UserError as `kernel_distance`, and where the reals do not vary.
    """
    check_sets(real_NF, fake_MF, 2, "a distance")
    centre_F = real_NF.double().mean(dim=0)
    scale = (real_NF.double() - centre_F).square().mean().sqrt()
    if scale == 0:
        raise UserError("the real images are all the same, which leaves no scale for kd-scaled; add others, or take kd")
    return kernel_distance(*((x.double() - centre_F) / scale for x in (real_NF, fake_MF)))


def kernel_distance_subsets(
    real_NF: Tensor, fake_MF: Tensor, subsets: int = 100, size: int = 1000, seed: int = SUBSET_SEED
) -> KernelSubsets:
    """Mean and standard deviation of the same estimate over subsets drawn without replacement from each set.

    Smaller sets cut `size` to min(N, M). Subset i is a function of (seed, i) and of N and M alone.

    Raises: UserError with fewer than 2 samples in a set, or features of two sizes.
    """
    check_sets(real_NF, fake_MF, 2, "a distance")
    size = min(size, len(real_NF), len(fake_MF))
    estimates = [
        kernel_distance(_drawn(real_NF, size, seed, f"real/{i}"), _drawn(fake_MF, size, seed, f"fake/{i}"))
        for i in range(subsets)
    ]
    values = torch.tensor(estimates, dtype=torch.float64)
    return KernelSubsets(float(values.mean()), float(values.std(correction=0)), size)


def _drawn(x_NF: Tensor, size: int, seed: int, stream: str) -> Tensor:
    chosen = torch.randperm(len(x_NF), generator=rng.generator(rng.key(seed, f"kernel-distance/{stream}", 0)))[:size]
    return x_NF[chosen.to(x_NF.device)]


def _kernel_sum(a_NF: Tensor, b_MF: Tensor) -> float:
    """The kernel, summed over all N x M pairs."""
    tiles = ((a, b) for a in a_NF.split(TILE) for b in b_MF.split(TILE))
    return sum(_kernel(a.double() @ b.double().T, a) for a, b in tiles)


def _kernel(products: Tensor, x_NF: Tensor) -> float:
    """(x.y / F + 1)^3 summed over inner products x.y of F features."""
    return float((products / x_NF.shape[1] + 1).pow_(3).sum())


def check_sets(real_NF: Tensor, fake_MF: Tensor, least: int, what: str) -> None:
    """Raises UserError where `what` has fewer samples than it needs, or features of two sizes."""
    for side, features in (("real", real_NF), ("fake", fake_MF)):
        if len(features) < least:
            raise UserError(f"{what} needs {least} {side} samples or more, got {len(features)}; add images")
    if real_NF.shape[1] != fake_MF.shape[1]:
        sizes = f"{real_NF.shape[1]} real, {fake_MF.shape[1]} fake"
        raise UserError(f"real and fake features must have one size, got {sizes}; use one extractor for both")
