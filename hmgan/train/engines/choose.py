"""From an experiment to its engine."""

from __future__ import annotations

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.train.engines.base import Engine, EngineRanks
from hmgan.train.engines.replicated import Replicated


def check_installed(experiment: Experiment) -> None:
    """Raises UserError where a package that the experiment's engine needs is missing here."""
    components.get("engine", experiment.compute.engine.name).check_installed()  # type: ignore[attr-defined]


def engine_of(experiment: Experiment, ranks: EngineRanks) -> Engine:
    """The experiment's engine; on one rank, which has nobody to divide anything with, always the replicated one."""
    return named(experiment, ranks) if ranks.world > 1 else Replicated(ranks)


def named(experiment: Experiment, ranks: EngineRanks) -> Engine:
    """The engine that the experiment names. Raises UserError for one that is not installed."""
    return components.build("engine", experiment.compute.engine.name, ranks, **experiment.compute.engine.options)
