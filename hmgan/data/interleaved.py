"""Several orders as one, in fixed shares. A round has L positions; M parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hmgan.data.order import KEPT, Ordered, generator


class Round(NamedTuple):
    """For each place of a round its part, and which of that part's places in the round it is."""

    part_L: NDArray[np.int64]
    number_L: NDArray[np.int64]


class _Window(NamedTuple):
    """A window of one part: its own positions, the overall position of its end, and its shards."""

    first: int
    end: int
    end_of_all: int
    shards: list[int]


Draw = Callable[[int], Round]  # the number of a round -> what lies in it; each part's numbers rise from 0


class Interleaved:
    """Takes `counts[m]` images of part m in every round, at positions drawn anew for each round.

    Each part keeps its own order across rounds: none of its images comes again before all of them were shown. Any
    position is found at once.

    Args:
        orders: of the parts.
        counts: images of each part in a round, 1 or more.
        draw: the rounds; `spread` gives some.
        group: images that stand for one of the counts: so many consecutive ones are of one part.
    """

    def __init__(self, orders: Sequence[Ordered], counts: Sequence[int], *, draw: Draw, group: int = 1) -> None:
        if len(orders) != len(counts) or min(counts) < 1:
            raise ValueError(f"each of {len(orders)} parts needs a count of 1 or more, got {list(counts)}")
        self.n = sum(order.n for order in orders)
        self._orders, self._counts, self._group = orders, np.array(counts), group
        self._length = int(self._counts.sum())
        self._round = lru_cache(KEPT + 1)(draw)
        self._windows: dict[int, _Window] = {}

    def __getitem__(self, c: int) -> int:
        groups, within = divmod(c, self._group)
        number, k = divmod(groups, self._length)
        parts, numbers = self._round(number)
        part = int(parts[k])
        own = number * int(self._counts[part]) + int(numbers[k])
        return self._orders[part][own * self._group + within]

    def slice(self, c: int, count: int) -> list[int]:
        return [self[position] for position in range(c, c + count)]

    def window(self, c: int) -> tuple[int, list[int]]:
        """Up to where the first of the parts leaves its window, and the shards of all their windows."""
        groups, within = divmod(c, self._group)
        number, k = divmod(groups, self._length)
        parts = self._round(number).part_L
        shown = number * self._counts + np.bincount(parts[:k], minlength=len(self._counts))
        shown *= self._group
        shown[parts[k]] += within
        for part, first in enumerate(shown.tolist()):
            here = self._windows.get(part)
            if here is None or not here.first <= first < here.end:
                end, shards = self._orders[part].window(first)
                self._windows[part] = _Window(first, end, self._position(part, end), shards)
        windows = self._windows.values()
        return min(window.end_of_all for window in windows), sorted({s for window in windows for s in window.shards})

    def _position(self, part: int, position: int) -> int:
        """The overall position of a part's own one."""
        groups, within = divmod(position, self._group)
        number, wanted = divmod(groups, int(self._counts[part]))
        parts, numbers = self._round(number)
        k = int(np.flatnonzero((parts == part) & (numbers == wanted))[0])
        return (number * self._length + k) * self._group + within


def spread(counts: Sequence[int], *, seed: int, name: str) -> Draw:
    """Rounds in which part m's number of images up to any position is within 2 of its share.

    The position of its j-th image in the round is drawn from [j, j + 1) / counts[m].

    Args:
        seed, name: others give other rounds.
    """
    part_L = np.repeat(np.arange(len(counts)), counts)
    number_L = np.concatenate([np.arange(count) for count in counts])
    return partial(_spread, part_L, number_L, np.array(counts), f"rounds/{name}{seed}")


def _spread(
    part_L: NDArray[np.int64], number_L: NDArray[np.int64], counts: NDArray[np.int64], key: str, number: int
) -> Round:
    uniform_L = torch.rand(len(part_L), generator=generator(f"{key}/{number}"), dtype=torch.float64).numpy()
    sorted_L = np.argsort((number_L + uniform_L) / counts[part_L], kind="stable")
    return Round(part_L[sorted_L], number_L[sorted_L])
