"""Whether an experiment fits into the memory that its ranks have: the estimate of --dry-run, against what is free."""

from __future__ import annotations

from collections.abc import Sequence

from hmgan.config.experiment import Experiment
from hmgan.doctor.devices import Place
from hmgan.doctor.section import Section
from hmgan.errors import UserError
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.dryrun import Footprint, footprint
from hmgan.train.engines.choose import engine_of
from hmgan.train.microbatches import microbatch_size
from hmgan.train.prepare import prepare
from hmgan.units import size


def memory(name: str, experiment: Experiment, runtime: Runtime, of_ranks: Sequence[Place]) -> Section:
    """Called on every rank at once: rank 0 opens the data first."""
    section = Section.empty("memory")
    try:
        prepared = prepare(experiment, runtime)
    except UserError as error:
        section.problems.append(f"{name}: {error}")
        return section
    batch = microbatch_size(experiment.train, len(of_ranks))
    judge(section, name, footprint(prepared), batch, of_ranks, divides=engine_of(experiment, runtime).divides)
    return section


def judge(
    section: Section, name: str, need: Footprint, batch: int, of_ranks: Sequence[Place], divides: bool = False
) -> None:
    """Every rank needs the same; ranks on a CPU take it from the same memory.

    Args:
        batch: images that pass through the networks at once.
        divides: whether the engine divides state over the ranks.
    """
    section.rows.append((name, f"{size(need.total)} in each rank, estimated"))
    section.rows.append(("of it", f"{size(need.state)} of weights, gradients and optimiser state"))
    section.rows.append(("", f"{size(need.activations)} of activations, {batch} images at once"))
    for rank, place in enumerate(of_ranks):
        sharing = 1 if place.gpus else sum(other.host == place.host for other in of_ranks)
        if need.total * sharing > place.free:
            there = f"{place.name} of rank {rank} has {size(place.free)} free"
            less = "lower --batch, or raise train.accumulate"
            if need.state * sharing >= place.free:
                spread = "" if divides or len(of_ranks) == 1 else "set compute.engine = zero2 or fsdp2, "
                less = f"{spread}take hyper-mod-low-rank, or larger devices"
            section.problems.append(f"{name} needs {size(need.total * sharing)}, and the {there}; {less}")
            return
