"""Means over seeds, and whether one row beats another by more than the seeds differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from statistics import fmean, stdev
from typing import NamedTuple

CONFIDENCE = 0.95  # two-sided


class Outcome(Enum):
    """What the seeds say of an ordering."""

    HOLDS = "holds"
    FAILS = "does not hold"
    NOISE = "within noise"
    OPEN = "open: one seed"


class Comparison(NamedTuple):
    """By how much one row is better than another, paired by seed."""

    seeds: tuple[int, ...]  # that both rows have
    difference: float  # mean over the seeds; positive where the row said to be better is
    margin: float  # half the width of the interval around it; infinite with one seed
    outcome: Outcome


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation, n - 1 in the denominator; None for fewer than 2."""
    return stdev(values) if len(values) > 1 else None


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
    centre, spread = fmean(differences), deviation(differences)
    if spread is None:
        return Comparison(seeds, centre, math.inf, Outcome.OPEN)
    from scipy.stats import t  # here, because it takes a second and one seed needs none

    margin = float(t.ppf((1 + CONFIDENCE) / 2, len(seeds) - 1)) * spread / math.sqrt(len(seeds))
    outcome = Outcome.HOLDS if centre > margin else Outcome.FAILS if centre < -margin else Outcome.NOISE
    return Comparison(seeds, centre, margin, outcome)
