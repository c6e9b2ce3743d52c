"""Several orders as one, in fixed shares. A round has L positions; M parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hmgan.data.order import KEPT, Ordered, generator


class _Round(NamedTuple):
    """For each position of a round its part, and which of that part's positions in the round it is."""

    part_L: NDArray[np.int64]
    number_L: NDArray[np.int64]


class _Window(NamedTuple):
    """A window of one part: its own positions, the overall position of its end, and its shards."""

    first: int
    end: int
    end_of_all: int
    shards: list[int]


class Interleaved:
    """Takes `counts[m]` images of part m in every round, at positions drawn anew for each round.

    Each part keeps its own order across rounds: none of its images comes again before all of them were shown. Part m's
    number of images up to any position is within 2 of its share, and exact at the end of a round: the position of its
    j-th image in the round is drawn from [j, j + 1) / counts[m]. Any position is found at once.

    Args:
        orders: of the parts.
        counts: images of each part in a round, 1 or more.
        seed, name: others give other rounds.
    """

    def __init__(self, orders: Sequence[Ordered], counts: Sequence[int], *, seed: int, name: str) -> None:
        if len(orders) != len(counts) or min(counts) < 1:
            raise ValueError(f"each of {len(orders)} parts needs a count of 1 or more, got {list(counts)}")
        self.n = sum(order.n for order in orders)
        self._orders, self._counts, self._key = orders, np.array(counts), f"rounds/{name}{seed}"
        self._length = int(self._counts.sum())
        self._part_L = np.repeat(np.arange(len(counts)), counts)
        self._number_L = np.concatenate([np.arange(count) for count in counts])
        self._round = lru_cache(KEPT + 1)(self._drawn)
        self._windows: dict[int, _Window] = {}

    def __getitem__(self, c: int) -> int:
        number, k = divmod(c, self._length)
        parts, numbers = self._round(number)
        part = int(parts[k])
        return self._orders[part][number * int(self._counts[part]) + int(numbers[k])]

    def window(self, c: int) -> tuple[int, list[int]]:
        """Up to where the first of the parts leaves its window, and the shards of all their windows."""
        number, k = divmod(c, self._length)
        shown = number * self._counts + np.bincount(self._round(number).part_L[:k], minlength=len(self._counts))
        for part, first in enumerate(shown.tolist()):
            here = self._windows.get(part)
            if here is None or not here.first <= first < here.end:
                end, shards = self._orders[part].window(first)
                self._windows[part] = _Window(first, end, self._position(part, end), shards)
        windows = self._windows.values()
        return min(window.end_of_all for window in windows), sorted({s for window in windows for s in window.shards})

    def _position(self, part: int, position: int) -> int:
        """The overall position of a part's own one."""
        number, wanted = divmod(position, int(self._counts[part]))
        parts, numbers = self._round(number)
        return number * self._length + int(np.flatnonzero((parts == part) & (numbers == wanted))[0])

    def _drawn(self, number: int) -> _Round:
        uniform_L = torch.rand(self._length, generator=generator(f"{self._key}/{number}"), dtype=torch.float64).numpy()
        times_L = (self._number_L + uniform_L) / self._counts[self._part_L]
        sorted_L = np.argsort(times_L, kind="stable")
        return _Round(self._part_L[sorted_L], self._number_L[sorted_L])
