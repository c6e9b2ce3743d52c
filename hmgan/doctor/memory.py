"""Whether an experiment fits into the memory that its ranks have: the estimate of --dry-run, against what is free."""

from __future__ import annotations

from collections.abc import Sequence

from hmgan.config.experiment import Experiment
from hmgan.doctor.devices import RankDevice
from hmgan.doctor.probe import ProbeResult
from hmgan.errors import UserError
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.draws import microbatch_size
from hmgan.train.dryrun import Footprint, footprint
from hmgan.train.engines.choose import engine_of
from hmgan.train.prepare import prepare
from hmgan.units import size


def memory(name: str, experiment: Experiment, runtime: Runtime, ranks: Sequence[RankDevice]) -> ProbeResult:
    """An experiment's need against what is free; called on every rank at once, for rank 0 opens the data first."""
    try:
        need = footprint(prepare(experiment, runtime))
    except UserError as error:
        return ProbeResult("memory", problems=[f"{name}: {error}"])
    microbatch = microbatch_size(experiment.train, len(ranks))
    return fit(name, need, microbatch, ranks, divides=engine_of(experiment, runtime).divides)


def fit(
    name: str, need: Footprint, microbatch: int, ranks: Sequence[RankDevice], *, divides: bool = False
) -> ProbeResult:
    """Compares one rank's need with what is free. Ranks on a CPU take it from the same memory.

    Args:
        microbatch: images that pass through the networks at once.
        divides: whether the engine divides state over the ranks.
    """
    rows = [
        (name, f"{size(need.total)} in each rank, estimated"),
        ("of it", f"{size(need.state)} of weights, gradients and optimiser state"),
        ("", f"{size(need.activations)} of activations, {microbatch} images at once"),
    ]
    for i, rank in enumerate(ranks):
        sharing = 1 if rank.gpus else sum(other.host == rank.host for other in ranks)
        if need.total * sharing > rank.free:
            less = "lower --batch, or raise train.accumulate"
            if need.state * sharing >= rank.free:
                spread = "" if divides or len(ranks) == 1 else "set compute.engine = zero2 or fsdp2, "
                less = f"{spread}take hyper-mod-low-rank, or larger devices"
            there = f"the {rank.name} of rank {i} has {size(rank.free)} free"
            return ProbeResult("memory", rows, [f"{name} needs {size(need.total * sharing)}, and {there}; {less}"])
    return ProbeResult("memory", rows)
