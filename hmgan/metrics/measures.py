"""Measures of two sets of features, by the names of `--metrics`: each gives one or more numbers with their protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hmgan.metrics.distances import SUBSET_SEED, frechet_distance, kernel_distance, kernel_distance_subsets
from hmgan.metrics.neighbours import COMPARISON, neighbour_scores

SUBSETS, SUBSET_SIZE = 100, 1000
# 3: Kynkaanniemi et al. 2019. 5: Naeem et al. 2020, and the paper for all four.
KS = (3, 5)
KERNEL = "unbiased MMD^2, kernel (x.y / F + 1)^3"
HIGHER_IS_BETTER = ("precision", "recall", "density", "coverage", "diversity", "class-kept", "style-kept")


class Measured(NamedTuple):
    """One number of one class, and the settings that it depends on."""

    metric: str  # without the extractor's name
    value: float
    protocol: str


def _frechet(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    return [Measured("FD", frechet_distance(real_NF, fake_MF), "full sets")]


def _kernel(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    return [Measured("KD", kernel_distance(real_NF, fake_MF), f"{KERNEL}; full sets")]


def _kernel_subsets(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    found = kernel_distance_subsets(real_NF, fake_MF, SUBSETS, SUBSET_SIZE)
    protocol = f"{KERNEL}; {SUBSETS} subsets of {found.size}, seed {SUBSET_SEED}"
    return [Measured("KD-subsets", found.mean, protocol), Measured("KD-subsets-std", found.std, protocol)]


def _neighbours(real_NF: Tensor, fake_MF: Tensor) -> list[Measured]:
    """Precision and recall for each k, density and coverage for k = 5 alone, as their authors define them."""
    found = neighbour_scores(real_NF, fake_MF, KS)
    wanted = [(name, k) for k in KS for name in ("precision", "recall")] + [("density", 5), ("coverage", 5)]
    return [Measured(f"{name}-k{k}", found[k]._asdict()[name], f"k = {k}, {COMPARISON}") for name, k in wanted]


FEATURE_MEASURES: dict[str, Callable[[Tensor, Tensor], list[Measured]]] = {
    "fd": _frechet,
    "kd": _kernel,
    "kd-subsets": _kernel_subsets,
    "prdc": _neighbours,
}
DEFAULT = ("fd", "kd")


def better(metric: str) -> str:
    """Which way is better: higher or lower."""
    return "higher" if metric.startswith(HIGHER_IS_BETTER) else "lower"


def arrow(metric: str) -> str:
    """An arrow that points to the better side."""
    return {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}[better(metric)]
