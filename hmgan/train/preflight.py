"""Preflight: what would otherwise fail in the first step is found before a run directory is made."""

from __future__ import annotations

import psutil

from hmgan.config.experiment import Experiment
from hmgan.errors import UserError
from hmgan.train.draws import microbatch_size
from hmgan.train.engines import choose
from hmgan.train.tasks.base import Task
from hmgan.units import size


def check_groups(experiment: Experiment, images: int) -> None:
    """Raises UserError for microbatches of so many images that would divide a group of one class."""
    group = experiment.loader.group
    if images % group:
        raise UserError(
            f"loader.group {group} does not divide the {images} images that pass through the networks at once "
            "(train.batch over ranks and train.accumulate); change one"
        )


def fits(experiment: Experiment, world: int) -> bool:
    """Whether the batch divides over so many ranks, as far as the configuration says."""
    try:
        check_groups(experiment, microbatch_size(experiment.train, world))
    except UserError:
        return False
    return True


def preflight(task: Task) -> None:
    """Raises UserError for a batch that ranks, networks or losses cannot take, or an engine that cannot train this."""
    experiment, ranks = task.experiment, task.setup.ranks
    settings, world = experiment.train, ranks.world
    check_groups(experiment, microbatch_size(settings, world))
    engine = choose.named(experiment, ranks)
    if engine.divides and not task.trains_same_parameters:
        raise UserError(
            f"engine {experiment.compute.engine.name} divides networks that train whole in every step, and here what "
            "trains changes from step to step; take compute.engine = replicated"
        )
    engine.check(task)
    if experiment.backbone is not None and task.generator.backbone.batch_statistics:
        seen = "batch norms of this backbone see one"
        if world > 1:
            raise UserError(f"{seen} rank's images, got {world} ranks; pretrain it on one")
        if settings.accumulate > 1:
            raise UserError(f"{seen} microbatch's images, got train.accumulate = {settings.accumulate}; leave it out")
    if task.data is not None:
        task.data.check_readers(world, experiment.loader.workers)
    task.check()


def check_memory(task: Task) -> None:
    """Raises UserError where not even the images of a rank's batch fit into the machine; a dry run says more."""
    batch, side = task.experiment.train.batch // task.setup.ranks.world, task.generator.resolution
    need, have = 3 * batch * side * side, psutil.virtual_memory().total
    if task.data is not None and need > have:
        images = f"train.batch {task.experiment.train.batch}: the images of a rank alone take {size(need)}"
        raise UserError(f"{images}, and this machine has {size(have)}; make the batch smaller")
