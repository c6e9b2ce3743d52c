"""A run that is ready to start."""

from __future__ import annotations

from typing import NamedTuple

from hmgan.config.experiment import Experiment
from hmgan.data.images import Images, Shown
from hmgan.generators.build import Networks
from hmgan.generators.source import Source
from hmgan.train.distributed.runtime import Runtime


class Prepared(NamedTuple):
    """All that a run needs, built and checked, before anything is written."""

    experiment: Experiment
    runtime: Runtime
    networks: Networks
    data: Shown | None
    classes: tuple[str, ...]
    source: Source | None
    reals: Images | None  # what scores at snapshots are against; None: no scores
