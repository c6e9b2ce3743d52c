"""Classes that collapse while they train, told by the spread that is scored at every snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hmgan.evaluation.score import MEAN, Score

SPREAD = "spread"
TOLD = 8  # classes with a line of their own, at most


def collapsed(scores: Sequence[Score], least: float) -> dict[str, float]:
    """Class -> its fakes' spread as a share of the reals', where that is below the least, by the first extractor."""
    spreads = [score for score in scores if score.metric == f"{SPREAD}-{score.extractor}" and score.cls != MEAN]
    own = [score for score in spreads if score.extractor == spreads[0].extractor]
    return {score.cls: score.value for score in own if score.value < least}


def warnings(found: Mapping[str, float], least: float) -> list[str]:
    """What is said of such classes: a line each, the lowest alone where there are many, and how many others."""
    told = sorted(found, key=found.__getitem__)[:TOLD] if len(found) > TOLD else found
    lines = [
        f"class {cls} shows {found[cls]:.2f} of the real images' diversity, less than {least:g}; it may have collapsed"
        for cls in told
    ]
    more = len(found) - len(lines)
    return lines + ([f"{more:,} more classes show less than {least:g}; they may have collapsed"] if more else [])
