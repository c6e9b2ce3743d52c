"""Intervals of shares, such as recall and coverage, and of their means over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

CONFIDENCE = 0.95  # two-sided
SAID = "95% interval: Wilson"


class Interval(NamedTuple):
    """From low to high."""

    low: float
    high: float


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a share of `count` samples (Wilson 1927): inside 0..1, and no point at 0 or 1.

    Samples count as independent; what they are compared with is held fixed. No bootstrap of both sets: a fake that is
    drawn twice has its own copy as nearest neighbour, and the balls that recall counts by shrink.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    scale = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def of_mean(shares: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of independent shares' mean, from each one's: distances add as variances do (Zou, Donner 2008)."""
    centre, count = fmean(shares), len(shares)
    low = math.hypot(*(share - own.low for share, own in zip(shares, intervals, strict=True))) / count
    high = math.hypot(*(own.high - share for share, own in zip(shares, intervals, strict=True))) / count
    return Interval(centre - low, centre + high)
