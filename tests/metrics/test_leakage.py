"""Leakage on sets whose answer is known, and its classifier against a naive one."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.metrics.leakage import RIDGE, class_kept, class_kept_of_reals, fit_classifier, style_alike, style_kept


def normal(n: int, f: int, seed: int) -> Tensor:
    return torch.randn(n, f, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def far_apart(n: int = 50) -> dict[str, Tensor]:
    """Three classes of 6 features, ten standard deviations from each other."""
    return {cls: normal(n, 6, i) + 10 * torch.eye(3, 6, dtype=torch.float64)[i] for i, cls in enumerate("abc")}


def test_the_classifier_is_the_nearest_mean_under_the_classes_common_covariance() -> None:
    mix = normal(4, 4, 9)
    sets = {cls: normal(n, 4, i) @ mix + i for i, (cls, n) in enumerate((("a", 30), ("b", 80), ("c", 20)))}
    means = [rows.mean(dim=0) for rows in sets.values()]
    covs = []
    for rows, mean in zip(sets.values(), means, strict=True):
        covs.append(sum(torch.outer(x - mean, x - mean) for x in rows) / len(rows))
    cov = sum(covs) / 3
    inverse = torch.linalg.inv(cov + RIDGE * cov.trace() / 4 * torch.eye(4, dtype=torch.float64))
    points = normal(200, 4, 7) @ mix + 1
    nearest = [min(range(3), key=lambda c: float((x - means[c]) @ inverse @ (x - means[c]))) for x in points]
    classifier = fit_classifier(sets)
    for i, cls in enumerate("abc"):
        assert classifier.accuracy(points, cls) == pytest.approx(nearest.count(i) / 200, abs=1e-12)
        assert nearest.count(i) > 5


def test_fakes_like_their_reals_keep_the_class_and_fakes_of_another_class_do_not() -> None:
    reals = far_apart()
    assert class_kept(reals, far_apart(20)) == {"a": 1, "b": 1, "c": 1}
    turned = dict(zip("abc", [reals["b"], reals["b"], reals["a"]], strict=True))
    assert class_kept(reals, turned) == {"a": 0, "b": 1, "c": 0}
    half = {**reals, "a": torch.cat([reals["a"][:25], reals["c"][:25]])}
    assert class_kept(reals, half)["a"] == 0.5


def test_reals_are_judged_by_the_half_that_does_not_hold_them() -> None:
    assert class_kept_of_reals(far_apart(51)) == {"a": 1, "b": 1, "c": 1}
    # 60 features of pure noise: a classifier that saw its own samples would be right far more often than chance.
    noise = {cls: normal(100, 60, i) for i, cls in enumerate("ab")}
    assert sum(class_kept_of_reals(noise).values()) / 2 == pytest.approx(0.5, abs=0.1)
    assert sum(class_kept(noise, noise).values()) / 2 > 0.7


def test_more_features_than_samples_and_constant_features_are_no_obstacle() -> None:
    reals = {cls: torch.cat([rows[:8], torch.zeros(8, 40)], dim=1) for cls, rows in far_apart().items()}
    assert class_kept(reals, reals) == {"a": 1, "b": 1, "c": 1}
    constant = {cls: torch.full((4, 3), float(i)) for i, cls in enumerate("ab")}
    assert class_kept(constant, constant) == {"a": 1, "b": 1}


def test_a_class_that_shifts_and_scales_features_keeps_all_style() -> None:
    style = normal(40, 8, 0)
    gains = torch.rand(3, 8, dtype=torch.float64) + 0.5
    shared = {cls: style * gains[i] + 5 * i for i, cls in enumerate("abc")}
    assert style_kept(shared) == pytest.approx({"a": 1, "b": 1, "c": 1})


def test_independent_styles_keep_none_and_opposed_ones_do_not_fall_below_zero() -> None:
    independent = style_kept({cls: normal(2000, 16, i) for i, cls in enumerate("abc")})
    assert all(0 <= value < 0.02 for value in independent.values())
    style = normal(50, 8, 0)
    assert style_kept({"a": style, "b": -style}) == {"a": 0, "b": 0}


def test_style_that_is_half_shared_in_variance_is_kept_by_half() -> None:
    style = normal(20_000, 4, 0)
    mixed = {cls: style + normal(20_000, 4, i + 1) for i, cls in enumerate("ab")}
    assert style_kept(mixed) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.02)


def test_style_equals_the_mean_correlation_by_loops() -> None:
    fakes = {cls: normal(12, 3, 0) + normal(12, 3, i + 1) for i, cls in enumerate("abc")}

    def correlation(x: Tensor, y: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([x, y]))[0, 1])

    pairs = [correlation(fakes["a"][:, f], fakes[cls][:, f]) for cls in "bc" for f in range(3)]
    assert style_kept(fakes)["a"] == pytest.approx(sum(pairs) / 6)


def test_features_that_do_not_vary_do_not_count_and_a_collapsed_class_keeps_nothing() -> None:
    style = normal(30, 4, 0)
    flat = torch.full((30, 2), 0.1)
    assert style_kept({"a": torch.cat([style, flat], 1), "b": torch.cat([style, flat + 1], 1)})["a"] == pytest.approx(1)
    assert style_kept({"a": style, "b": style[:1].expand(30, 4)}) == {"a": 0, "b": 0}


def test_too_few_classes_samples_or_draws_are_user_errors() -> None:
    reals = far_apart()
    with pytest.raises(UserError, match="leakage needs 2 classes or more, got 1; leave it out of --metrics"):
        class_kept({"a": reals["a"]}, {"a": reals["a"]})
    with pytest.raises(UserError, match="class 'b' has 1 real samples, leakage needs 2 or more"):
        fit_classifier({"a": reals["a"], "b": reals["b"][:1]})
    with pytest.raises(UserError, match="class 'b' has 3 real samples, two halves for leakage need 4 or more"):
        class_kept_of_reals({"a": reals["a"], "b": reals["b"][:3]})
    with pytest.raises(UserError, match=r"3 shared draws of z or more in every class, got \[2\]"):
        style_kept({"a": reals["a"][:2], "b": reals["b"][:2]})
    with pytest.raises(UserError, match=r"got \[4, 5\]"):
        style_kept({"a": reals["a"][:4], "b": reals["b"][:5]})
    with pytest.raises(UserError, match="leakage needs 2 classes or more, got 1"):
        style_kept({"a": reals["a"]})


def test_columns_that_repeat_few_styles_in_every_class_are_found_however_each_class_draws_them() -> None:
    """Three prototypes per class, in features of its own: no feature correlates, but the columns are the same."""
    which = torch.arange(90) % 3
    repeating = {cls: normal(3, 64, i)[which] for i, cls in enumerate("abc")}
    assert all(value > 0.85 for value in style_alike(repeating).values())
    assert all(value < 0.3 for value in style_kept(repeating).values())
    turned = {"a": (style := normal(60, 8, 0)), "b": 3 * style @ torch.linalg.qr(normal(8, 8, 1)).Q + 2}
    assert style_alike(turned) == pytest.approx({"a": 1, "b": 1})


def test_unrelated_and_collapsed_classes_are_not_alike() -> None:
    unrelated = style_alike({cls: normal(400, 16, i) for i, cls in enumerate("abc")})
    assert all(value < 0.03 for value in unrelated.values())
    assert style_alike({"a": normal(30, 4, 0), "b": normal(1, 4, 1).expand(30, 4)}) == {"a": 0, "b": 0}


def test_likeness_is_the_unbiased_cka_by_loops() -> None:
    a, b = normal(6, 3, 0), normal(6, 3, 0) + 0.3 * normal(6, 3, 1)
    gram_a, gram_b = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (a, b))
    n = len(a)

    def criterion(k: torch.Tensor, m: torch.Tensor) -> float:
        """The mean over all ordered quadruples of different samples (Song et al. 2012, Eq. 4)."""
        total = 0.0
        for i, j, q, r in itertools.permutations(range(n), 4):
            total += float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
        return total / math.perm(n, 4)

    expected = criterion(gram_a, gram_b) / (criterion(gram_a, gram_a) * criterion(gram_b, gram_b)) ** 0.5
    assert style_alike({"a": a, "b": b})["a"] == pytest.approx(expected)
