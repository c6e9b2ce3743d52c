"""Classes that collapse while they train, told by the spread that is scored at every snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from hmgan.evaluation.score import MEAN, Score

SPREAD = "spread"


def collapsed(scores: Sequence[Score], least: float) -> dict[str, float]:
    """Class -> its fakes' spread as a share of the reals', where that is below the least, by the first extractor."""
    spreads = [score for score in scores if score.metric == f"{SPREAD}-{score.extractor}" and score.cls != MEAN]
    own = [score for score in spreads if score.extractor == spreads[0].extractor]
    return {score.cls: score.value for score in own if score.value < least}


def warning(cls: str, share: float, least: float) -> str:
    """What is said of such a class."""
    shown = f"{share:.2f} of the real images' diversity, less than {least:g}"
    return f"class {cls} shows {shown}; it may have collapsed"
