"""How much one set of features varies: in how many directions, and how far. N samples, F features."""

from __future__ import annotations

import torch
from torch import Tensor

from hmgan.errors import UserError


def effective_rank(x_NF: Tensor) -> float:
    """tr(C)^2 / tr(C^2) of the covariance C, the participation ratio: 1 on a line, F where all directions vary alike.

    At most N - 1, so that ranks compare only at one number of samples. Where nothing varies it is 0.

    Raises: UserError with fewer than 2 samples.
    """
    _check(x_NF, "a rank")
    centred_NF = x_NF.double() - x_NF.double().mean(dim=0)
    # Both products have the same traces; the smaller one is made.
    gram = centred_NF.T @ centred_NF if x_NF.shape[1] < len(x_NF) else centred_NF @ centred_NF.T
    trace, squares = float(gram.diagonal().sum()), float(gram.square().sum())
    # What rounding leaves of equal samples is no direction.
    varies = trace > 1e-12 * float(x_NF.double().square().sum())
    return trace**2 / squares if varies else 0.0


def intra_class_distance(x_NF: Tensor) -> float:
    """Mean Euclidean distance over all pairs of one class.

    Time and memory grow with N^2; a few hundred samples are enough.

    Raises: UserError with fewer than 2 samples.
    """
    _check(x_NF, "diversity")
    return float(torch.pdist(x_NF.double()).mean())


def spread(real_NF: Tensor, fake_MF: Tensor) -> float:
    """The fakes' mean distance over the reals', within one class: 1 as diverse as they are, 0 one image alone.

    Reals that are all one image have nothing that fakes could lack: 1.

    Raises: UserError with fewer than 2 samples in a set.
    """
    reals = intra_class_distance(real_NF)
    return intra_class_distance(fake_MF) / reals if reals > 0 else 1.0


def _check(x_NF: Tensor, what: str) -> None:
    if len(x_NF) < 2:
        raise UserError(f"{what} needs 2 samples or more, got {len(x_NF)}; add images")
