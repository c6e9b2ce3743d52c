"""The two distances against closed forms and naive references."""

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from hmgan.errors import UserError
from hmgan.metrics import distances
from hmgan.metrics.distances import (
    frechet_distance,
    kernel_distance,
    kernel_distance_subsets,
    scaled_kernel_distance,
)


class Through(nn.Module):
    num_features = 8

    def forward(self, features: Tensor) -> Tensor:
        return features


def normal(n: int, f: int, seed: int) -> Tensor:
    return torch.randn(n, f, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whitened(n: int, f: int, seed: int) -> Tensor:
    """[n, f] with mean 0 and covariance 1 exactly, so that closed forms hold to rounding."""
    x_NF = normal(n, f, seed)
    x_NF = x_NF - x_NF.mean(dim=0)
    return torch.linalg.qr(x_NF).Q * (n - 1) ** 0.5


def frechet_by_eigh(real_NF: Tensor, fake_MF: Tensor) -> float:
    """Symmetric form: tr (C_r C_f)^(1/2) = tr (C_r^(1/2) C_f C_r^(1/2))^(1/2)."""
    c_r, c_f = real_NF.T.cov(), fake_MF.T.cov()
    values, vectors = torch.linalg.eigh(c_r)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c_f @ root).clamp(min=0).sqrt().sum()
    gap = (real_NF.mean(dim=0) - fake_MF.mean(dim=0)).square().sum()
    return float(gap + c_r.trace() + c_f.trace() - 2 * cross)


def mmd_by_loop(x: Tensor, y: Tensor) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    xy = sum(kernel(a, b) for a in x for b in y) / (n * m)
    return xx + yy - 2 * xy


def test_frechet_of_gaussians_with_common_axes_is_the_closed_form() -> None:
    s_r, s_f = torch.linspace(0.1, 3, 16, dtype=torch.float64), torch.linspace(2, 0.5, 16, dtype=torch.float64)
    gap = torch.linspace(-1, 1, 16, dtype=torch.float64)
    real, fake = whitened(200, 16, 0) * s_r, whitened(150, 16, 1) * s_f + gap
    expected = gap.square().sum() + (s_r - s_f).square().sum()
    assert frechet_distance(real, fake) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_of_a_shift_is_its_square() -> None:
    real = normal(300, 8, 0)
    assert frechet_distance(real, real + 0.25) == pytest.approx(8 * 0.25**2, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (40, 30), (5, 7)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_frechet_agrees_with_a_symmetric_eigendecomposition(n: int, m: int, offset: float) -> None:
    """Also rank-deficient (fewer samples than the 128 features), on a slowly decaying spectrum, and far from 0."""
    decay = torch.logspace(0, -3, 128, dtype=torch.float64)
    mix = torch.linalg.qr(normal(128, 128, 2)).Q
    real, fake = normal(n, 128, 0) * decay + offset, (normal(m, 128, 1) * decay * 1.3) @ mix + offset
    assert frechet_distance(real, fake) == pytest.approx(frechet_by_eigh(real, fake), rel=1e-6)


def test_frechet_of_two_pairs_is_exact() -> None:
    """Covariances of rank 1: tr (aa' bb')^(1/2) is |a.b|."""
    real, fake = normal(2, 512, 0), normal(2, 512, 1)
    a, b, gap = (real[0] - real[1]) / 2**0.5, (fake[0] - fake[1]) / 2**0.5, real.mean(0) - fake.mean(0)
    expected = gap @ gap + a @ a + b @ b - 2 * (a @ b).abs()
    assert frechet_distance(real, fake) == pytest.approx(float(expected), rel=1e-13)


def test_frechet_does_not_see_a_common_shift() -> None:
    real, fake = normal(40, 128, 0), normal(30, 128, 1)
    assert frechet_distance(real + 1000, fake + 1000) == pytest.approx(frechet_distance(real, fake), rel=1e-8)


@pytest.mark.parametrize("n", [10, 200])
def test_frechet_of_identical_sets_is_zero(n: int) -> None:
    real = normal(n, 64, 0)
    assert frechet_distance(real, real.clone()) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real) >= 0


def test_frechet_is_symmetric_and_takes_float32() -> None:
    real, fake = normal(50, 16, 0), normal(60, 16, 1) + 0.1
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)
    assert frechet_distance(real.float(), fake.float()) == pytest.approx(frechet_distance(real, fake), rel=1e-5)


def test_kernel_distance_is_the_unbiased_mmd_of_the_full_sets() -> None:
    real, fake = normal(30, 12, 0), normal(30, 12, 1) * 1.2 + 0.3
    assert kernel_distance(real, fake) == pytest.approx(mmd_by_loop(real, fake), rel=1e-9)


def test_kernel_distance_of_identical_sets_is_below_zero_as_the_unbiased_estimate_is() -> None:
    real = normal(25, 6, 0)
    assert kernel_distance(real, real) == pytest.approx(mmd_by_loop(real, real), rel=1e-9)
    assert kernel_distance(real, real) < 0


def test_kernel_distance_of_disjoint_halves_averages_to_zero() -> None:
    """Unbiased: the mean over draws is 0, not above it as the biased estimate's would be (about 0.5 here)."""
    values = [kernel_distance(normal(40, 8, 2 * i), normal(40, 8, 2 * i + 1)) for i in range(60)]
    assert min(values) < 0
    assert abs(sum(values) / len(values)) < 0.05


@pytest.mark.parametrize(("n", "m"), [(30, 12), (11, 40)])
def test_kernel_distance_of_unequal_sets_uses_every_sample_and_tiles_do_not_show(n: int, m: int, monkeypatch) -> None:
    real, fake = normal(n, 8, 0), normal(m, 8, 1) * 1.3
    expected = mmd_by_loop(real, fake)
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(distances, "TILE", 7)
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_subsets_repeat_by_seed_spread_and_leave_the_random_state_alone() -> None:
    real, fake = normal(60, 8, 0), normal(50, 8, 1) + 0.2
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = kernel_distance_subsets(real, fake, subsets=20, size=25)
    assert torch.equal(torch.get_rng_state(), state)
    assert kernel_distance_subsets(real, fake, subsets=20, size=25) == first
    assert kernel_distance_subsets(real, fake, subsets=20, size=25, seed=1) != first
    assert first.std > 0
    # Unbiased as well: the mean over subsets is the full sets' value, within a few standard errors.
    assert first.mean == pytest.approx(kernel_distance(real, fake), abs=4 * first.std / 20**0.5)


def test_subsets_as_large_as_the_smaller_set_are_that_set() -> None:
    real, fake = normal(40, 8, 0), normal(40, 8, 1)
    found = kernel_distance_subsets(real, fake, subsets=3, size=1000)
    assert found.mean == pytest.approx(kernel_distance(real, fake), rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-12)
    assert found.size == 40
    assert kernel_distance_subsets(real, fake[:10], subsets=3).size == 10


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kernel_distance_agrees_with_torchmetrics_on_equal_sets() -> None:
    real, fake = normal(50, 8, 0), normal(50, 8, 1) * 1.1
    metric = KernelInceptionDistance(feature=Through(), subsets=1, subset_size=50, gamma=1 / 8)
    metric.set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert kernel_distance(real, fake) == pytest.approx(float(metric.compute()[0]), rel=1e-9)


def test_kernel_distance_is_computed_in_float64() -> None:
    """A gap that float32 kernels, of size (x.x / F + 1)^3 = 1e12 here, cannot show."""
    real = normal(20, 4, 0) + 100
    fake = real + 1e-6
    assert kernel_distance(real, fake) == pytest.approx(mmd_by_loop(real, fake), rel=1e-3)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, kernel_distance_subsets])
def test_too_few_samples_and_mixed_extractors_are_user_errors(distance) -> None:
    with pytest.raises(UserError, match="needs 2 fake samples or more, got 1; add images"):
        distance(normal(5, 4, 0), normal(1, 4, 1))
    with pytest.raises(UserError, match="got 4 real, 3 fake; use one extractor for both"):
        distance(normal(5, 4, 0), normal(5, 3, 1))


def test_the_scaled_kernel_distance_ignores_where_and_how_large_the_features_are() -> None:
    generator = torch.Generator().manual_seed(3)
    real, fake = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (12, 15))
    found = scaled_kernel_distance(real, fake + 0.5)
    assert scaled_kernel_distance(real * 40 + 300, (fake + 0.5) * 40 + 300) == pytest.approx(found)
    assert abs(scaled_kernel_distance(real, fake)) < found

    centre, scale = real.mean(0), (real - real.mean(0)).square().mean().sqrt()
    naive = kernel_distance((real - centre) / scale, (fake + 0.5 - centre) / scale)
    assert found == pytest.approx(naive)
    assert ((real - centre) / scale).square().sum(1).mean() / 5 == pytest.approx(1)
    with pytest.raises(UserError, match="real images are all the same"):
        scaled_kernel_distance(real[:1].expand(4, -1), fake)
