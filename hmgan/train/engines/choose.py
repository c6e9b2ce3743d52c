"""From an experiment to its engine."""

from __future__ import annotations

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.train.engines.base import Engine, Ranks
from hmgan.train.engines.replicated import Replicated


def engine_of(experiment: Experiment, ranks: Ranks) -> Engine:
    """The experiment's. One rank has nobody to divide anything with: it holds everything."""
    return named(experiment, ranks) if ranks.world > 1 else Replicated(ranks)


def named(experiment: Experiment, ranks: Ranks) -> Engine:
    """The engine that the experiment names. Raises UserError for one that is not installed."""
    return components.build("engine", experiment.compute.engine.name, ranks, **experiment.compute.engine.options)
