"""Means over seeds, and whether one row beats another by more than the seeds differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

CONFIDENCE = 0.95  # two-sided


class Verdict(Enum):
    HOLDS = "holds"
    FAILS = "does not hold"
    NOISE = "within noise"
    OPEN = "open: one seed"


class Comparison(NamedTuple):
    """By how much one row is better than another, paired by seed."""

    seeds: tuple[int, ...]  # that both rows have
    difference: float  # mean over the seeds; positive where the row said to be better is
    margin: float  # half the width of the interval around it; infinite with one seed
    verdict: Verdict


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation, n - 1 in the denominator; None for fewer than 2."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def compare(better: Mapping[int, float], worse: Mapping[int, float], *, higher: bool) -> Comparison | None:
    """Whether `better` beats `worse`, each seed -> score; None where they share no seed. `higher` scores are better.

    The rule: the mean difference exceeds t(0.975, n - 1) standard errors of the paired differences (holds), or falls
    below minus that (does not hold), or neither (within noise).
    """
    seeds = tuple(sorted({*better} & {*worse}))
    if not seeds:
        return None
    sign = 1 if higher else -1
    differences = [sign * (better[seed] - worse[seed]) for seed in seeds]
    centre, spread = mean(differences), deviation(differences)
    if spread is None:
        return Comparison(seeds, centre, math.inf, Verdict.OPEN)
    margin = t_quantile((1 + CONFIDENCE) / 2, len(seeds) - 1) * spread / math.sqrt(len(seeds))
    verdict = Verdict.HOLDS if centre > margin else Verdict.FAILS if centre < -margin else Verdict.NOISE
    return Comparison(seeds, centre, margin, verdict)


def t_quantile(probability: float, freedom: int) -> float:
    """Student's t: the value that a variable of `freedom` degrees stays below with a probability of at least 1/2."""
    low, high = 0.0, 1.0
    while t_below(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, freedom) < probability else (low, middle)
    return high


def t_below(t: float, freedom: int) -> float:
    """P(T < t) for t >= 0 by the sums for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    cos2 = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cos2 * k / (k + 1)
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 + inside) / 2
