"""Classes that a schedule never comes to, told before it begins: the order of the images is a formula."""

from __future__ import annotations

import math

from hmgan.config.experiment import Experiment
from hmgan.data.images import Shown
from hmgan.data.order import WINDOW

CHUNK, NAMES = 1024, 8  # positions looked at together; classes named


def warning(experiment: Experiment, data: Shown) -> str:
    """Which classes have no image among those of the schedule, as a line; nothing where it shows all.

    Of a schedule beyond a window it is not known: any class has come by then that is not thousands of times rarer.
    """
    settings = experiment.train
    shown = settings.batch * math.ceil(1000 * settings.kimg / settings.batch)
    if experiment.data is None or experiment.data.reader != "index" or shown > WINDOW:
        return ""
    images = data.indexed("their order")
    order, labels_N = images.order(seed=settings.seed, batch=settings.batch), images.labels
    missing = dict(enumerate(images.classes))
    for first in range(0, shown, CHUNK):
        for label in labels_N[order.slice(first, min(CHUNK, shown - first))].unique().tolist():
            missing.pop(label, None)
        if not missing:
            return ""
    also = "" if experiment.data.balance else ", or show classes equally often with --set data.balance=true"
    names = ", ".join([*missing.values()][:NAMES]) + (", ..." if len(missing) > NAMES else "")
    few = f"{len(missing):,} of {len(images.classes):,} classes ({names})"
    return f"warning: {settings.kimg:g} kimg show no image of {few}; train longer{also}"
