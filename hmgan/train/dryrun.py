"""--dry-run: what would be trained, how large it is, and the first batch's labels. Trains and writes nothing."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from torch import nn

from hmgan.data.images import Reading
from hmgan.errors import one_line, some_of
from hmgan.train import unshown
from hmgan.train.draws import microbatch_size
from hmgan.train.engines.choose import engine_of
from hmgan.train.prepare import Prepared
from hmgan.train.tasks import build as tasks
from hmgan.units import size

BYTES = 4  # float32
SHOWN = 256  # images of the first batch at most, whose labels are read


def print_plan(prepared: Prepared, console: Console | None = None) -> None:
    """Networks, parameters frozen and trained, optimiser state, memory, and the first batch."""
    console = console or Console(markup=False)
    if not prepared.runtime.main:
        return
    experiment, generator, world = prepared.experiment, prepared.networks.generator, prepared.runtime.world
    spread = f", {experiment.compute.engine.name}" if world > 1 else ""
    table = Table(title=f"{tasks.verb(experiment)}: {experiment.summary}{spread}")
    for column in ("network", "frozen", "trained", "optimiser state", "moving average"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows(prepared):
        average = size(row.average) if row.averaged else ""
        table.add_row(row.name, f"{row.frozen:,}", f"{row.trained:,}", size(row.moments), average)
    console.print(table)
    batch, need = microbatch_size(experiment.train, world), footprint(prepared)
    console.print(
        f"memory per rank, estimated: {size(need.state)} of weights, gradients and optimiser state, "
        f"and about {size(need.activations)} of activations for {batch} images at once of {generator.resolution} px"
    )
    summary = f"{prepared.task.summary()}; " if prepared.task.summary() else ""
    console.print(one_line(f"{summary}classes: {some_of(prepared.classes)}"), markup=False)
    if prepared.data is not None:
        whole, seed = experiment.train.batch // world, experiment.train.seed
        share = min(whole, SHOWN)
        first = next(prepared.data.batches(Reading(batch_per_rank=share, world=world, seed=seed)))
        labels = [prepared.data.classes[label] for label in first.labels.tolist()]
        what = "first batch" if share == whole else f"first {share} of the batch's {whole:,} images"
        counts = some_of(f"{cls} x {count}" for cls, count in sorted(Counter(labels).items()))
        console.print(one_line(f"{what}: {counts}"), markup=False)
        console.print(one_line(f"labels: {' '.join(labels)}"), markup=False)
        if text := unshown.warning(experiment, prepared.data):
            console.print(one_line(text), markup=False)
    console.print("dry run: nothing was trained or written")


class NetworkRow(NamedTuple):
    """A network in numbers of parameters, what of it is divided, and over how many ranks."""

    name: str
    frozen: int
    trained: int
    averaged: bool
    divided: frozenset[str] = frozenset()
    ranks: int = 1

    @property
    def moments(self) -> int:
        return self.held("moments", 2 * self.trained)

    @property
    def average(self) -> int:
        return self.held("average", self.trained) if self.averaged else 0

    @property
    def total(self) -> int:
        """Bytes in each rank: all weights; gradients, two moments and perhaps a moving average of what trains."""
        weights, gradients = self.held("weights", self.frozen + self.trained), self.held("gradients", self.trained)
        master = self.held("master", self.trained) if "master" in self.divided else 0
        return weights + gradients + self.moments + self.average + master

    def held(self, what: str, numbers: int) -> int:
        """Bytes in each rank of so many numbers."""
        return BYTES * (-(-numbers // self.ranks) if what in self.divided else numbers)


class Footprint(NamedTuple):
    """Bytes in each rank, estimated: of weights, gradients and optimiser state; of activations."""

    state: int
    activations: int

    @property
    def total(self) -> int:
        return self.state + self.activations


def footprint(prepared: Prepared) -> Footprint:
    """Of a training step: each network keeps about 8 maps per block, as wide as G's, at the block's resolution."""
    batch = microbatch_size(prepared.experiment.train, prepared.runtime.world)
    each = BYTES if prepared.experiment.compute.precision == "float32" else BYTES // 2
    maps = prepared.networks.generator.backbone.maps()
    activations = sum(16 * width * pixels * batch * each for width, pixels in maps)
    return Footprint(sum(row.total for row in rows(prepared)), activations)


def rows(prepared: Prepared) -> list[NetworkRow]:
    """The networks that a run holds, as its task freezes them."""
    engine, task = engine_of(prepared.experiment, prepared.runtime), prepared.task
    divided, world = (engine.of_generator, engine.of_discriminator), prepared.runtime.world
    return [
        NetworkRow(name, *parameters(network), averaged, divided[network is task.discriminator], world)
        for name, (network, averaged) in task.networks().items()
    ]


def parameters(network: nn.Module) -> tuple[int, int]:
    """Frozen and trained parameter counts."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return sum(p.numel() for p in network.parameters()) - trained, trained
