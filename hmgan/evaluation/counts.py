"""Whether images are enough for a score, and of one size: said before the first of them is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from hmgan.data.images import Images
from hmgan.errors import UserError
from hmgan.evaluation.score import MEAN
from hmgan.metrics.measures import KS
from hmgan.units import size

FEWEST = {"prdc": max(KS) + 1, "leakage": 4}  # images per class; of any other metric 2
SPREAD = 8  # images of a class whose spread says something: 28 pairs
LEAVE = "add images, leave the class out with data.classes, or"


def check_reals(metrics: Sequence[str], reals: Images, instead: str = "take another metric") -> None:
    """Raises UserError, naming class and metric, where images are too few, or a class has the name of the mean."""
    if MEAN in reals.classes:
        raise UserError(f"a class is named '{MEAN}', which is the name of the row of means; rename the class")
    name, least = _neediest(metrics)
    for cls, count in zip(reals.classes, reals.counts, strict=True):
        if count < least:
            images = "1 real image" if count == 1 else f"{count} real images"
            raise UserError(f"class '{cls}' has {images}, {name} needs {least} or more; {LEAVE} {instead}")


def check_size(reals: Images, resolution: int) -> None:
    """Raises UserError where a generator draws images of another size than the real ones."""
    if reals.resolution != resolution:
        raise UserError(
            f"the data has images of {reals.resolution} px, the generator draws {resolution} px, so that scores would "
            f"be of that; pack the data with --resolution {resolution}, or give other data"
        )


def warnings(metrics: Sequence[str], reals: Images, per_class: int, dim: int) -> list[str]:
    """What scores of so few images are worth, a line each; nothing where there are enough.

    A covariance of no more samples than features is singular, and a Frechet distance depends on their number above all.
    """
    least = min(per_class, *reals.counts)
    lines = []
    if "fd" in metrics and least <= dim:
        few = f"fd of {least:,} images of a class in {dim:,} dimensions is too large, by their number above all"
        lines.append(f"{few}; compare it only with scores of the same counts, or take more than {dim:,}, or kd")
    if "spread" in metrics and least < SPREAD:
        pairs = "1 pair" if least == 2 else f"{least * (least - 1) // 2} pairs"
        chance = f"spread of {least} images of a class is the distance of {pairs} of them, and may be low by chance"
        lines.append(f"{chance}; take {SPREAD} or more before a class is said to have collapsed")
    return [f"warning: {line}" for line in lines]


def check_fakes(metrics: Sequence[str], per_class: int, option: str = "--per-class") -> None:
    """Raises UserError, naming the option, where fakes are too few."""
    name, least = _neediest(metrics)
    if per_class < least:
        raise UserError(f"{option} must be {least} or more for {name}, got {per_class}")


def check_room(per_class: int, classes: int, dim: int, option: str = "--per-class") -> None:
    """Raises UserError, naming the option, where the features of so many fakes do not fit into the machine."""
    need, have = 8 * dim * per_class * classes, psutil.virtual_memory().total
    if need > have:
        fakes = f"{per_class:,} fakes of each of {classes:,} classes"
        raise UserError(f"{option}: features of {fakes} take {size(need)}, and this machine has {size(have)}; lower it")


def fewest(metrics: Sequence[str]) -> int:
    """How many images of a class the metrics need."""
    return _neediest(metrics)[1]


def _neediest(metrics: Sequence[str]) -> tuple[str, int]:
    """The metric that needs the most images, and how many."""
    return max(((name, FEWEST.get(name, 2)) for name in metrics), key=lambda each: each[1], default=("a score", 2))
