"""From an experiment to its engine, and what an engine cannot train."""

from __future__ import annotations

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.errors import UserError
from hmgan.generators.build import Generator
from hmgan.train.engines.base import Engine, Ranks
from hmgan.train.engines.replicated import Replicated


def engine_of(experiment: Experiment, ranks: Ranks) -> Engine:
    """The experiment's. One rank has nobody to divide anything with: it holds everything."""
    return named(experiment, ranks) if ranks.world > 1 else Replicated(ranks)


def named(experiment: Experiment, ranks: Ranks) -> Engine:
    return components.build("engine", experiment.engine.name, ranks, **experiment.engine.options)


def check(experiment: Experiment, ranks: Ranks, generator: Generator) -> None:
    """Raises UserError for an engine that is not installed, or cannot train this."""
    engine = named(experiment, ranks)
    if not engine.divides:
        return
    name = experiment.engine.name
    for field in ("reconstruction", "mining", "anchors"):
        if getattr(experiment, field) is not None:
            raise UserError(
                f"engine {name} divides networks that train whole in every step, and {field} changes what trains; "
                "take engine = replicated"
            )
    engine.check(experiment, generator)
