"""Batches with each class's share of images, in groups of one class on request. K classes, L groups in a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd, lcm

import numpy as np
import torch
from numpy.typing import NDArray

from hmgan.data.interleaved import Interleaved, Round
from hmgan.data.order import Ordered, generator
from hmgan.errors import UserError

MIXINGS = 8  # times that batches of a round exchange classes with each other
AT_ONCE = 1 << 10  # batches that do so, which bounds the memory
Random = Callable[..., NDArray[np.float64]]  # a shape -> uniform numbers in [0, 1)


def stratified(orders: Sequence[Ordered], *, batch: int, group: int, equal: bool, seed: int, name: str) -> Interleaved:
    """An order in which every batch holds floor or ceil of each class's share of its groups.

    Each class keeps its own order: none of its images comes again before all of them were shown. Where `group` divides
    every class, an epoch shows each image once. A round is the least number of epochs of whole groups, or, of `equal`
    shares, of whole batches. Any position is found from its round alone, which keeps 12 bytes per group.

    Args:
        orders: of the classes.
        batch: images of a step, over all ranks; step s has the positions from s * batch.
        group: consecutive images of one class.
        equal: show classes equally often, instead of each image.
        seed, name: others give other orders.

    Raises: UserError for a batch that is no whole number of groups.
    """
    if batch % group:
        raise UserError(f"loader.group {group} does not divide train.batch {batch}; change one")
    groups = batch // group
    if equal:
        counts = [lcm(len(orders), groups) // len(orders)] * len(orders)
    else:
        unit = gcd(group, *(order.n for order in orders))
        counts = [order.n // unit for order in orders]
    return Interleaved(orders, counts, draw=partial(_drawn, counts, groups, f"strata/{name}{seed}"), group=group)


def _drawn(counts: Sequence[int], batch: int, key: str, number: int) -> Round:
    """The groups of a round, as classes.

    The classes lie one after the other on a circle of L places, which steps of batch / L of its length visit: place x
    comes at time x * batch mod L, and a batch is the places of `batch` consecutive times. In each of them a class has
    as many as whole turns pass it: floor or ceil of its share, also where a batch lies across two rounds (systematic
    sampling). Whole batches then exchange classes and places at random, which keeps all counts.
    """
    total = sum(counts)
    class_L = np.repeat(np.arange(len(counts)), counts)[np.argsort(np.arange(total) * batch % total, kind="stable")]
    # The first batch that begins in this round, and how many lie in it whole.
    first = -number * total % batch
    whole = max(0, (total - first) // batch)
    end = first + whole * batch
    random = partial(_uniform, generator(f"{key}/{number}"))
    rows_MB = class_L[first:end].reshape(whole, batch)
    head, tail = (part[random(len(part)).argsort()] for part in (class_L[:first], class_L[end:]))
    class_L = np.concatenate([head, _exchanged(rows_MB, len(counts), random).ravel(), tail])
    order_L = np.argsort(class_L, kind="stable")
    number_L = np.empty(total, np.int64)
    number_L[order_L] = np.concatenate([np.arange(count) for count in counts])
    return Round(class_L.astype(np.int32), number_L)


def _exchanged(rows_MB: NDArray[np.int64], classes: int, random: Random) -> NDArray[np.int64]:
    """Batches in another order, each in another order, with classes exchanged between pairs of them.

    Two batches differ in classes of which one has ceil and the other floor: which of the two has it is drawn anew.
    """
    rows_MB = rows_MB[random(len(rows_MB)).argsort()]
    for first in range(0, len(rows_MB), AT_ONCE):
        part_MB = rows_MB[first : first + AT_ONCE]
        counts_MK = np.stack([np.bincount(row, minlength=classes) for row in part_MB])
        for _ in range(MIXINGS):
            _exchange(counts_MK, random)
        rows = np.repeat(np.tile(np.arange(classes), len(part_MB)), counts_MK.ravel()).reshape(part_MB.shape)
        rows_MB[first : first + AT_ONCE] = np.take_along_axis(rows, random(*rows.shape).argsort(1), 1)
    return rows_MB


def _exchange(counts_MK: NDArray[np.int64], random: Random) -> None:
    """Once, between the batches of every pair, in place. Sums over rows and columns stay."""
    drawn_M, half = random(len(counts_MK)).argsort(), len(counts_MK) // 2
    one, other = drawn_M[:half], drawn_M[half : 2 * half]
    gap_PK = counts_MK[one] - counts_MK[other]  # -1, 0 or 1, as often 1 as -1
    rank_PK = np.where(gap_PK != 0, random(*gap_PK.shape), 2.0).argsort(1).argsort(1)
    gains_PK = rank_PK < (gap_PK > 0).sum(1, keepdims=True)
    least_PK = np.minimum(counts_MK[one], counts_MK[other])
    counts_MK[one], counts_MK[other] = least_PK + gains_PK, least_PK + ((gap_PK != 0) & ~gains_PK)


def _uniform(generator: torch.Generator, *shape: int) -> NDArray[np.float64]:
    return torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
