"""Means over seeds, and whether one row beats another by more than the seeds differ.

Rows are compared by differences of means under one variance, pooled over all rows of a target: a seed gives two methods
nothing in common that would make their difference steadier, and a pooled variance has many degrees of freedom where a
row's own has few.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from statistics import fmean, stdev, variance
from typing import NamedTuple

LEVEL = 0.05  # of a two-sided test of a difference, and of each one-sided test of equivalence
POWER = 0.8
MOST = 10_000  # seeds, beyond which none are counted


class Outcome(Enum):
    """What the seeds say of an ordering."""

    HOLDS = "holds"
    REVERSE = "reverse"
    NO_DIFFERENCE = "no difference"
    OPEN = "open: one seed"


class Pooled(NamedTuple):
    """One standard deviation of a score under different seeds, from all rows."""

    deviation: float
    freedom: int  # degrees of it: the seeds of all rows, less one for each row


class Comparison(NamedTuple):
    """By how much one row is better than another."""

    seeds: tuple[int, int]  # of either row
    difference: float  # of the means; positive where the row said to be better is
    margin: float  # half the width of its 95% interval; infinite where no row has two seeds
    outcome: Outcome
    bound: float  # the difference either way that is excluded, as a share of the worse row's mean
    deviation: float  # of one seed's score

    @property
    def to_decide(self) -> int | None:
        """Seeds per row that find a difference as large as this one with 80% power."""
        return seeds_to_find(self.difference, self.deviation)

    @property
    def verdict(self) -> str:
        """In words."""
        if self.outcome is not Outcome.NO_DIFFERENCE:
            return self.outcome.value
        return f"no difference above {math.ceil(100 * self.bound):,}%" if math.isfinite(self.bound) else "no difference"


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation, n - 1 in the denominator; None for fewer than 2."""
    return stdev(values) if len(values) > 1 else None


def pooled(rows: Sequence[Sequence[float]]) -> Pooled:
    """The root of the rows' variances, weighed by their degrees of freedom; 0 degrees where no row has two values."""
    several = [values for values in rows if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum((len(values) - 1) * variance(values) for values in several)
    return Pooled(math.sqrt(squares / max(1, freedom)), freedom)


def compare(
    better: Mapping[int, float], worse: Mapping[int, float], spread: Pooled, *, higher: bool
) -> Comparison | None:
    """Whether `better` beats `worse`; None where one of them has no seed. `higher` scores are better.

    It holds where the 95% interval of the difference lies above zero, and is reversed where it lies below. Else two
    one-sided tests say how large a difference is excluded (Schuirmann 1987): the 90% interval lies within it.
    """
    if not better or not worse:
        return None
    a, b = list(better.values()), list(worse.values())
    seeds, gap = (len(a), len(b)), (fmean(a) - fmean(b)) * (1 if higher else -1)
    if not spread.freedom:
        return Comparison(seeds, gap, math.inf, Outcome.OPEN, math.inf, spread.deviation)
    from scipy.stats import t  # here, because it takes a second and one seed needs none

    error = spread.deviation * math.sqrt(1 / len(a) + 1 / len(b))
    margin = float(t.ppf(1 - LEVEL / 2, spread.freedom)) * error
    excluded, scale = abs(gap) + float(t.ppf(1 - LEVEL, spread.freedom)) * error, abs(fmean(b))
    outcome = Outcome.HOLDS if gap > margin else Outcome.REVERSE if gap < -margin else Outcome.NO_DIFFERENCE
    bound = excluded / scale if scale else math.inf
    return Comparison(seeds, gap, margin, outcome, bound, spread.deviation)


def seeds_to_find(gap: float, deviation: float) -> int | None:
    """Seeds per row by which a two-sided 5% test finds a true difference `gap` with 80% power; None beyond MOST."""
    if not gap:
        return None
    return _first(lambda n: deviation == 0 or _power(n, abs(gap) / deviation) >= POWER)


def seeds_to_exclude(gap: float, deviation: float) -> int | None:
    """Seeds per row by which two rows that are equal are shown to differ by less than `gap` with 80% power."""
    from scipy.stats import t

    def enough(n: int) -> bool:
        # Both one-sided tests must reject, so each may fail half as often as both together.
        quantiles = t.ppf([1 - LEVEL, (1 + POWER) / 2], 2 * (n - 1))
        return bool(gap >= quantiles.sum() * deviation * math.sqrt(2 / n))

    return _first(enough)


def _power(seeds: int, effect: float) -> float:
    """Of the two-sided t test of two rows whose means differ by `effect` deviations."""
    from scipy.stats import nct, t

    freedom = 2 * (seeds - 1)
    critical, shift = float(t.ppf(1 - LEVEL / 2, freedom)), effect * math.sqrt(seeds / 2)
    # Below -critical, the wrong side, is as rare as the difference is worth finding.
    return float(nct.sf(critical, freedom, shift))


def _first(enough: Callable[[int], bool]) -> int | None:
    """The first of 2, 3, ... 40, then in steps of a twentieth, from which on there are enough."""
    counts = [*range(2, 40), *(round(40 * 1.05**i) for i in range(114) if 40 * 1.05**i <= MOST)]
    at = bisect_left(counts, True, key=enough)
    return counts[at] if at < len(counts) else None
