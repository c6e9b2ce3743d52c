"""Measures of two sets of features, by the names of `--metrics`: each gives one or more numbers with their protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hmgan.metrics import diversity
from hmgan.metrics.distances import (
    SUBSET_SEED,
    frechet_distance,
    kernel_distance,
    kernel_distance_subsets,
    scaled_kernel_distance,
)
from hmgan.metrics.intervals import SAID, Interval, wilson
from hmgan.metrics.neighbours import COMPARISON, neighbour_scores

SUBSETS, SUBSET_SIZE = 100, 1000
# 3: Kynkaanniemi et al. 2019. 5: Naeem et al. 2020, and the paper for all four.
KS = (3, 5)
KERNEL = "unbiased MMD^2, kernel (x.y / F + 1)^3"
SPREAD_SAMPLES = 200  # of each side, in spread: pairs grow with the square
OF_REALS = ("recall", "coverage")  # shares of the reals; precision is one of the fakes
HIGHER_IS_BETTER = (
    *("precision", "recall", "density", "coverage", "diversity", "rank", "spread"),
    *("class-kept", "style-kept", "style-alike"),
)


class Measured(NamedTuple):
    """One number of one class, and the settings that it depends on."""

    metric: str  # without the extractor's name
    value: float
    protocol: str
    interval: Interval | None = None


def _frechet(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    return [Measured("FD", frechet_distance(real_NF, fake_MF), "full sets")]


def _kernel(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    return [Measured("KD", kernel_distance(real_NF, fake_MF), f"{KERNEL}; full sets")]


def _kernel_subsets(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    found = kernel_distance_subsets(real_NF, fake_MF, SUBSETS, SUBSET_SIZE)
    protocol = f"{KERNEL}; {SUBSETS} subsets of {found.size}, seed {SUBSET_SEED}"
    return [Measured("KD-subsets", found.mean, protocol), Measured("KD-subsets-std", found.std, protocol)]


def _scaled_kernel(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    protocol = f"{KERNEL}; full sets, centred and scaled by the reals"
    return [Measured("KD-scaled", scaled_kernel_distance(real_NF, fake_MF), protocol)]


def _neighbours(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    """Precision and recall for each k, density and coverage for k = 5 alone, as their authors define them."""
    found = neighbour_scores(real_NF, fake_MF, KS)
    wanted = [(name, k) for k in KS for name in ("precision", "recall")] + [("density", 5), ("coverage", 5)]
    measured = []
    for name, k in wanted:
        value, protocol, interval = found[k]._asdict()[name], f"k = {k}, {COMPARISON}", None
        if name != "density":  # the others are shares
            side, count = ("reals", len(real_NF)) if name in OF_REALS else ("fakes", len(fake_MF))
            interval, protocol = wilson(value, count), f"{protocol}; {SAID}, over the {side}"
        measured.append(Measured(f"{name}-k{k}", value, protocol, interval))
    return measured


def _rank(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    """Of as many reals as fakes, since few samples span few directions."""
    count = min(len(real_NF), len(fake_MF))
    protocol = f"participation ratio of the covariance of {count} samples"
    sides = (("rank", fake_MF), ("rank-reals", real_NF))
    return [Measured(name, diversity.effective_rank(x_NF[:count]), protocol) for name, x_NF in sides]


def _spread(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    value = diversity.spread(real_NF[:SPREAD_SAMPLES], fake_MF[:SPREAD_SAMPLES])
    protocol = f"mean distance of all pairs, fakes over reals, of {SPREAD_SAMPLES} each at most"
    return [Measured("spread", value, protocol)]


FEATURE_MEASURES: dict[str, Callable[[Tensor, Tensor], list[Measured]]] = {
    "fd": _frechet,
    "kd": _kernel,
    "kd-subsets": _kernel_subsets,
    "kd-scaled": _scaled_kernel,
    "prdc": _neighbours,
    "rank": _rank,
    "spread": _spread,
}
DEFAULT = ("fd", "kd")
AT_SNAPSHOTS = (*DEFAULT, "spread")


def better(metric: str) -> str:
    """Which way is better: higher or lower."""
    return "higher" if metric.startswith(HIGHER_IS_BETTER) else "lower"


def shown(value: float) -> str:
    """A score to four significant figures, and all of those before the point: 0.08351, 12.35, 20,590."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def arrow(metric: str) -> str:
    """An arrow that points to the better side."""
    return {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}[better(metric)]
