"""From an experiment to its task."""

from __future__ import annotations

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.train.tasks.base import Setup, Task


def build(setup: Setup) -> Task:
    """The task that the experiment names. Raises UserError for what it cannot train."""
    choice = setup.experiment.task
    return components.build("task", choice.name, setup, **choice.options)


def verb(experiment: Experiment) -> str:
    """What the command line calls a training of this experiment: pretrain, or its task's own word."""
    if experiment.backbone is not None:
        return "pretrain"
    task: type[Task] = components.get("task", experiment.task.name)
    return task.verb
