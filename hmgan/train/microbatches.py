"""A rank's batch in parts that pass through the networks one after the other: less memory, the same step.

To a step a part is what a rank is: a share of the global batch, whose gradients are averaged with those of all others.
Where a loss compares samples, a part needs the rows of all parts: a first pass without gradients makes them, and in
the second each part's own are alive among them (gradient caching, Gao et al. 2021, arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from hmgan.config.settings import Train
from hmgan.errors import UserError
from hmgan.train.engines.base import Trained

T = TypeVar("T")
Gather = Callable[[Tensor], Tensor]  # [B, ...] of one part -> of all parts of all ranks, in the order of the batch
Stats = dict[str, Tensor]
Loss = Callable[[T, Gather], tuple[Tensor, Stats]]


def microbatch_size(settings: Train, world: int) -> int:
    """Images that pass through the networks at once. Raises UserError if the global batch cannot be split evenly."""
    parts = settings.accumulate
    if settings.batch % (world * parts):
        split = f"{world} ranks" + (f" of train.accumulate = {parts} parts" if parts > 1 else "")
        change = "--batch or train.accumulate" if parts > 1 else "--batch"
        raise UserError(f"train.batch {settings.batch} does not divide over {split}; change {change}")
    return settings.batch // (world * parts)


def minimise(
    trained: Trained,
    parts: Sequence[T],
    loss: Loss[T],
    gather: Gather,
    place: tuple[int, int],
    compares: bool,
    rewind: Callable[[], None],
) -> tuple[bool, Stats]:
    """One step on the mean of all parts' losses.

    Args:
        loss: of a part. What it says of a gathered row is the same in every part.
        gather: rows of all ranks, in rank order.
        place: this rank, of how many.
        compares: whether the loss of a sample depends on others, so that it has to be given the whole batch.
        rewind: puts back what a pass changes in the networks beside gradients: each part starts from the same.

    Returns whether the step was left out, and what there is to say of it, the mean over this rank's parts.
    """
    count = len(parts)
    if count == 1:
        value, stats = loss(parts[0], gather)
        trained.backward(value, last=True)
        return trained.step(value.detach()), stats
    gathers: list[Gather] = [_alone] * count
    if compares:
        gathers = _looked_ahead(parts, loss, gather, place, rewind)
    values, told = [], []
    for i, (part, own) in enumerate(zip(parts, gathers, strict=True)):
        if i or compares:
            rewind()
        value, stats = loss(part, own)
        trained.backward(value / count, last=i == count - 1)
        values.append(value.detach())
        told.append({name: x.detach() for name, x in stats.items()})
    means = {name: torch.stack([stats[name] for stats in told]).mean(0) for name in told[0]}
    return trained.step(torch.stack(values).mean()), means


def _alone(x: Tensor) -> Tensor:
    """For losses of which every sample has its own: the mean over parts is the mean over the batch."""
    return x


def _looked_ahead(
    parts: Sequence[T], loss: Loss[T], gather: Gather, place: tuple[int, int], rewind: Callable[[], None]
) -> list[Gather]:
    """Each part's way to the rows of all parts: what it asks for first, second and so on is what the others did."""
    rank, world = place
    asked: list[list[Tensor]] = []
    for part in parts:
        rows: list[Tensor] = []

        def keep(x: Tensor, rows: list[Tensor] = rows) -> Tensor:
            rows.append(x)
            # Only shapes count in this pass; what is made of them is thrown away.
            return x.expand(world * len(parts), *x.shape).flatten(0, 1)

        with torch.no_grad():
            loss(part, keep)
        rewind()
        asked.append(rows)
    tables = [gather(torch.cat(rows)) for rows in zip(*asked, strict=True)]
    return [_Remembered(tables, rank * len(parts) + i, world * len(parts)) for i in range(len(parts))]


class _Remembered:
    """Rows of all parts, this part's own among them alive."""

    def __init__(self, tables: Sequence[Tensor], position: int, shares: int) -> None:
        self._tables, self._position, self._shares = iter(tables), position, shares

    def __call__(self, x: Tensor) -> Tensor:
        return _Among.apply(x, next(self._tables), self._position * len(x), self._shares)


class _Among(torch.autograd.Function):
    """Every part's loss depends on these rows alike, so the sum of all their gradients is so many times this one's."""

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
