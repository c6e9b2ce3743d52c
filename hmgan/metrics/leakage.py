"""Leakage between class and style, as two numbers in 0..1. C classes, N samples, F features, Z draws of the latents.

Does changing z keep the class? A linear classifier, fitted on real features, names the class of fakes. Does changing
the class keep the style? The features of the same latents in every class are correlated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hmgan.errors import UserError

RIDGE = 1e-2


class Classifier(NamedTuple):
    """Scores of C classes, affine in the features."""

    centre_F: Tensor
    weight_FC: Tensor
    bias_C: Tensor
    classes: tuple[str, ...]

    def accuracy(self, features_NF: Tensor, cls: str) -> float:
        """The share of samples that are taken for `cls`."""
        scores_NC = (features_NF.double() - self.centre_F) @ self.weight_FC + self.bias_C
        return float((scores_NC.argmax(dim=1) == self.classes.index(cls)).double().mean())


def fit_classifier(features: Mapping[str, Tensor]) -> Classifier:
    """Linear discriminants in closed form: class means under one covariance, RIDGE of its mean variance added.

    Every class weighs the same, whatever its number of samples. Nothing is random or iterated.

    Raises: UserError with fewer than 2 classes, or 2 samples in a class.
    """
    if len(features) < 2:
        raise UserError(f"leakage needs 2 classes or more, got {len(features)}; leave it out of --metrics")
    for cls, rows in features.items():
        if len(rows) < 2:
            raise UserError(f"class '{cls}' has {len(rows)} real samples, leakage needs 2 or more; add images")
    means_CF = torch.stack([rows.double().mean(dim=0) for rows in features.values()])
    centre_F = means_CF.mean(dim=0)
    within_FF = torch.stack([rows.double().T.cov(correction=0) for rows in features.values()]).mean(dim=0)
    unit = within_FF.diagonal().mean()
    # Classes without any variance would leave nothing to invert; any unit will do for them.
    within_FF.diagonal().add_(RIDGE * torch.where(unit > 0, unit, 1.0))
    gaps_CF = means_CF - centre_F
    weight_FC = torch.linalg.solve(within_FF, gaps_CF.T)
    return Classifier(centre_F, weight_FC, -0.5 * (gaps_CF * weight_FC.T).sum(dim=1), tuple(features))


def class_kept(reals: Mapping[str, Tensor], fakes: Mapping[str, Tensor]) -> dict[str, float]:
    """Class -> the share of its fakes, [N, F], that the classifier of the reals takes for it.

    1: z never changes the class. Chance is 1 / C, and a perfect generator reaches `class_kept_of_reals`.

    Raises: UserError as `fit_classifier`.
    """
    classifier = fit_classifier(reals)
    return {cls: classifier.accuracy(fakes[cls], cls) for cls in reals}


def class_kept_of_reals(reals: Mapping[str, Tensor]) -> dict[str, float]:
    """Class -> the same share of unseen reals: fitted on every other sample, tested on the rest, and the reverse.

    Raises: UserError with fewer than 2 classes, or 4 samples in a class.
    """
    for cls, rows in reals.items():
        if len(rows) < 4:
            needed = "two halves for leakage need 4 or more"
            raise UserError(f"class '{cls}' has {len(rows)} real samples, {needed}; add images")
    even, odd = ({cls: rows[half::2] for cls, rows in reals.items()} for half in (0, 1))
    pairs = [(fit_classifier(even), odd), (fit_classifier(odd), even)]
    # Samples count the same in both halves, which differ by one where their number is odd.
    return {
        cls: sum(fit.accuracy(held[cls], cls) * len(held[cls]) for fit, held in pairs) / len(reals[cls])
        for cls in reals
    }


def style_kept(fakes: Mapping[str, Tensor]) -> dict[str, float]:
    """Class -> how much of the variation over z it shares with the other classes.

    Row i of every class's [Z, F] has the same z and noise. Features are standardised within each class, which leaves
    style; their correlations over z are averaged over the other classes and over the features that vary in both.
    1: the class only recolours what z draws (up to a gain and a shift per feature). 0: z means something unrelated in
    each class; below 0, which only opposed styles reach, counts as 0.

    Raises: UserError with fewer than 2 classes or 3 draws, or classes of unequal numbers of draws.
    """
    _check_draws(fakes, 3)
    unit = {cls: _standardised(rows) for cls, rows in fakes.items()}
    kept = {}
    for cls, (rows_ZF, varies_F) in unit.items():
        pairs = []
        for other, (others_ZF, other_varies_F) in unit.items():
            both_F = varies_F & other_varies_F
            if other != cls and both_F.any():
                pairs.append((rows_ZF * others_ZF).mean(dim=0)[both_F].mean())
        # Classes that do not vary at all share no variation.
        kept[cls] = max(0.0, float(torch.stack(pairs).mean())) if pairs else 0.0
    return kept


def style_alike(fakes: Mapping[str, Tensor]) -> dict[str, float]:
    """Class -> how far draws of z that look alike in it look alike in the other classes, however each draws them.

    Row i of every class's [Z, F] has the same z and noise. The linear CKA of two classes' features (Kornblith et al.
    2019, Eq. 1; unbiased as in Song et al. 2012), averaged over the other classes: 1 where a column of images repeats
    one of a few styles in every class, even if the class draws it in features of its own, for which `style_kept` is
    blind; 0 where z means something unrelated in each.

    Raises: UserError with fewer than 2 classes or 4 draws, or classes of unequal numbers of draws.
    """
    _check_draws(fakes, 4)
    grams = {cls: _off_diagonal(rows) for cls, rows in fakes.items()}
    own = {cls: _dependence(gram_ZZ, gram_ZZ) for cls, gram_ZZ in grams.items()}
    alike = {}
    for cls, gram_ZZ in grams.items():
        shares = []
        for other, other_ZZ in grams.items():
            scale = own[cls] * own[other]
            if other != cls:
                # A class that does not vary is like no other.
                shares.append(_dependence(gram_ZZ, other_ZZ) / scale**0.5 if scale > 0 else 0.0)
        alike[cls] = min(1.0, max(0.0, sum(shares) / len(shares)))
    return alike


def _check_draws(fakes: Mapping[str, Tensor], fewest: int) -> None:
    if len(fakes) < 2:
        raise UserError(f"leakage needs 2 classes or more, got {len(fakes)}; leave it out of --metrics")
    draws = sorted({len(rows) for rows in fakes.values()})
    if len(draws) > 1 or draws[0] < fewest:
        raise UserError(
            f"leakage needs {fewest} shared draws of z or more in every class, got {draws}; draw more fakes"
        )


def _off_diagonal(rows_ZF: Tensor) -> Tensor:
    """[Z, Z] products of centred features, no draw with itself."""
    rows_ZF = rows_ZF.double()
    centred_ZF = rows_ZF - rows_ZF.mean(dim=0)
    # What rounding leaves of equal images is no variation.
    centred_ZF = torch.where(centred_ZF.abs() > 1e-9 * rows_ZF.abs().amax(dim=0), centred_ZF, 0.0)
    return (centred_ZF @ centred_ZF.T).fill_diagonal_(0)


def _dependence(a_ZZ: Tensor, b_ZZ: Tensor) -> float:
    """The unbiased Hilbert-Schmidt criterion, times Z (Z - 3) (Song et al. 2012, Eq. 5)."""
    n = len(a_ZZ)
    totals = a_ZZ.sum() * b_ZZ.sum() / ((n - 1) * (n - 2))
    return float((a_ZZ * b_ZZ).sum() + totals - 2 / (n - 2) * (a_ZZ.sum(dim=0) * b_ZZ.sum(dim=0)).sum())


def _standardised(rows_ZF: Tensor) -> tuple[Tensor, Tensor]:
    """[Z, F] at mean 0 and variance 1 over z, and which of the F vary at all beyond rounding."""
    rows_ZF = rows_ZF.double()
    centred_ZF = rows_ZF - rows_ZF.mean(dim=0)
    std_F = centred_ZF.square().mean(dim=0).sqrt()
    varies_F = std_F > 1e-6 * rows_ZF.abs().amax(dim=0)
    return centred_ZF / torch.where(varies_F, std_F, torch.ones_like(std_F)), varies_F
