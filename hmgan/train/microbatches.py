"""A rank's batch in microbatches that pass through the networks one after the other: less memory, the same step.

To a step a microbatch is what a rank is: a share of the global batch, whose gradients are averaged with all others'.
Where a loss compares samples, each microbatch needs the rows of all: a first pass without gradients caches them, and
the second puts its own, with their gradients, in their place (gradient caching, Gao et al. 2021, arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hmgan.train.draws import Microbatch
from hmgan.train.engines.base import EngineRanks
from hmgan.train.tasks.base import Gather, Phase, Stats


def minimise(
    phase: Phase,
    microbatches: Sequence[Microbatch],
    ranks: EngineRanks,
    rewind: Callable[[], None],
    queued: Callable[[], None],
) -> tuple[Tensor, Stats]:
    """One step on the mean of all microbatches' losses.

    Args:
        phase: its loss says the same of a gathered row in every microbatch.
        rewind: restores what a pass changes in the networks beside gradients: every pass starts from the same state.
        queued: called before the optimiser steps, when the device has been given all that comes before.

    Returns what `Trained.step` does, and the means of what the losses report.
    """
    trained, count = phase.trained, len(microbatches)
    if count == 1:
        value, stats = phase.loss(microbatches[0], ranks.gather)
        trained.backward(value, last=True)
        queued()
        return trained.step(value.detach()), stats
    # Where every sample has a loss of its own, the mean over microbatches is the mean over the batch.
    gathers: list[Gather] = [lambda rows: rows] * count
    if phase.compares:
        gathers = _cached_gathers(phase, microbatches, ranks, rewind)
    values, reported = [], []
    for i, (microbatch, gather) in enumerate(zip(microbatches, gathers, strict=True)):
        if i or phase.compares:
            rewind()
        value, stats = phase.loss(microbatch, gather)
        trained.backward(value / count, last=i == count - 1)
        values.append(value.detach())
        reported.append({name: x.detach() for name, x in stats.items()})
    means = {name: torch.stack([stats[name] for stats in reported]).mean(0) for name in reported[0]}
    queued()
    return trained.step(torch.stack(values).mean()), means


def _cached_gathers(
    phase: Phase, microbatches: Sequence[Microbatch], ranks: EngineRanks, rewind: Callable[[], None]
) -> list[Gather]:
    """A gather for each microbatch: its n-th call is answered from what all microbatches gave in their n-th call."""
    count, shares = len(microbatches), ranks.world * len(microbatches)
    given: list[list[Tensor]] = []
    for microbatch in microbatches:
        rows: list[Tensor] = []

        def cache(x: Tensor, rows: list[Tensor] = rows) -> Tensor:
            rows.append(x)
            # Only shapes count in this pass; what is made of them is thrown away.
            return x.expand(shares, *x.shape).flatten(0, 1)

        with torch.no_grad():
            phase.loss(microbatch, cache)
        rewind()
        given.append(rows)
    tables = [ranks.gather(torch.cat(rows)) for rows in zip(*given, strict=True)]

    def gather_of(position: int) -> Gather:
        cached = iter(tables)
        return lambda x: _InCache.apply(x, next(cached), position * len(x), shares)

    return [gather_of(ranks.rank * count + i) for i in range(count)]


class _InCache(torch.autograd.Function):
    """Puts a microbatch's rows, with gradients, in their place among the cached ones.

    The loss of every share depends on these rows alike: the sum of all their gradients is `shares` times this one's.
    """

    @staticmethod
    def forward(x: Tensor, table: Tensor, first: int, shares: int) -> Tensor:
        return torch.cat([table[:first], x, table[first + len(x) :]])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        x, _, ctx.first, ctx.shares = inputs
        ctx.rows = len(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.shares * grad.narrow(0, ctx.first, ctx.rows), None, None, None
