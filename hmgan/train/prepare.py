"""From an experiment to a run that is ready to start: data, networks, task, checked."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hmgan.config.experiment import Experiment
from hmgan.data import named
from hmgan.data.images import Images, Shown
from hmgan.errors import UserError, some_of
from hmgan.evaluation.counts import check_reals, check_size
from hmgan.generators import build
from hmgan.generators.aligned import start_aligned
from hmgan.generators.build import Networks
from hmgan.generators.source import Source, source_of
from hmgan.metrics.measures import AT_SNAPSHOTS
from hmgan.metrics.networks import load_extractors
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.preflight import preflight
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.base import Setup, Task


def runtime_of(experiment: Experiment) -> Runtime:
    """This process among the ranks, under the experiment's settings."""
    if experiment.compute.threads:
        torch.set_num_threads(experiment.compute.threads)
    return Runtime(trackers=experiment.train.trackers, timeout=experiment.train.timeout)


def prepare(experiment: Experiment, runtime: Runtime | None = None) -> Prepared:
    """Opens the data and builds the networks; writes no run. Raises UserError for anything that does not fit."""
    runtime = runtime or runtime_of(experiment)
    with runtime.accelerator.main_process_first():  # rank 0 packs a registry set, the others find it there
        strata = experiment.loader.strata
        data = named.open_training(experiment.data, labelled=experiment.conditional, group=strata)
    classes, source = data.classes, source_of(experiment)
    networks = build.build(experiment, source, len(classes))
    resolution = networks.generator.resolution
    if data.resolution != resolution:
        raise UserError(
            f"data {experiment.data} is {data.resolution} px and the generator {resolution} px; "
            f"pack it again with hmgan pack --resolution {resolution}"
        )
    task = tasks.build(Setup(experiment, *networks, data, len(classes), runtime))
    if task.needs_alignment:
        start_aligned(networks.generator, experiment, source, len(classes))
    preflight(task)
    reals = scored_against(experiment, runtime, classes) if task.uses_images else None
    if reals is not None:
        check_size(reals, resolution)
    return Prepared(experiment, runtime, task, classes, source, reals)


def scored_against(experiment: Experiment, runtime: Runtime, classes: tuple[str, ...]) -> Images | None:
    """The real images of the scores at snapshots, where the experiment asks for scores.

    Raises: UserError if their classes are not those of the training, or too few to score.
    """
    settings = experiment.evaluation
    if not settings.per_class:
        return None
    load_extractors(settings.extractor)  # their names, before anything is written
    with runtime.accelerator.main_process_first():
        wanted = named.scored_against(experiment.data, settings.data)
        reals = named.open_images(wanted, labelled=experiment.conditional)
    if reals.classes != classes:
        raise UserError(
            f"evaluation.data has classes {some_of(reals.classes)}, training has {some_of(classes)}; "
            "they must be the same, in the same order"
        )
    check_reals(AT_SNAPSHOTS, reals, "train without scores (--metrics 0)")
    return reals


class Prepared(NamedTuple):
    """All that a run needs, built and checked, before anything is written."""

    experiment: Experiment
    runtime: Runtime
    task: Task
    classes: tuple[str, ...]
    source: Source | None
    reals: Images | None  # what scores at snapshots are against; None: no scores

    @property
    def networks(self) -> Networks:
        """Both networks, as the task holds them."""
        return Networks(self.task.generator, self.task.discriminator)

    @property
    def data(self) -> Shown | None:
        """The training images; None for a task that needs none."""
        return self.task.data
