"""Distances between two sets of features, in float64 by torchmetrics. N real, M fake, F features.

torchmetrics brings its own Inception unless it is given a module; ours hands features through, so that neither
torch-fidelity nor torchvision is needed and any extractor will do.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from hmgan.errors import UserError

SUBSET_SEED = 0


class _Identity(nn.Module):
    """Features in, features out. `num_features` is what torchmetrics looks for."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features_NF: Tensor) -> Tensor:
        return features_NF


def frechet_distance(real_NF: Tensor, fake_MF: Tensor) -> float:
    """|mu_r - mu_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2)) of the sets' Gaussians (Heusel et al. 2017, Eq. 6).

    Exact to about 1e-7 of the traces, also with fewer samples than features (checked against singular values).

    Raises: UserError with fewer than 2 samples in a set, or features of two sizes.
    """
    _check(real_NF, fake_MF)
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


def kernel_distance(real_NF: Tensor, fake_MF: Tensor) -> float:
    """Unbiased MMD^2 under (x.y / F + 1)^3 over the full sets (Binkowski et al. 2018): no subsets, no spread.

    With N != M the larger set is cut to min(N, M) samples, drawn under a fixed seed: equal inputs give equal values,
    and the caller's random state is left alone. It may be slightly negative, being unbiased. Memory is about
    40 * min(N, M)^2 bytes: 4 GB for 10,000 samples.

    Raises: UserError with fewer than 2 samples in a set, or features of two sizes.
    """
    _check(real_NF, fake_MF)
    size, dim = min(len(real_NF), len(fake_MF)), real_NF.shape[1]
    with warnings.catch_warnings():
        # The buffer it warns of is the feature set that we hold anyway.
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance`", category=UserWarning)
        metric = KernelInceptionDistance(
            feature=_Identity(dim),
            subsets=1,
            subset_size=size,
            degree=3,
            gamma=1 / dim,
            coef=1.0,
            sync_on_compute=False,
        )
    metric.to(real_NF.device).set_dtype(torch.float64)
    metric.update(real_NF.double(), real=True)
    metric.update(fake_MF.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SUBSET_SEED)  # torch.manual_seed would reseed the accelerators as well.
        mean, _ = metric.compute()
    return float(mean)


def _check(real_NF: Tensor, fake_MF: Tensor) -> None:
    for side, features in (("real", real_NF), ("fake", fake_MF)):
        if len(features) < 2:
            raise UserError(f"a distance needs 2 {side} samples or more, got {len(features)}; add images")
    if real_NF.shape[1] != fake_MF.shape[1]:
        sizes = f"{real_NF.shape[1]} real, {fake_MF.shape[1]} fake"
        raise UserError(f"real and fake features must have one size, got {sizes}; use one extractor for both")
