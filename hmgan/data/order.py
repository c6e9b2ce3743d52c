"""The global order of the images, whatever the number of ranks. n images, S shards, W ranks with B images each."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

WINDOW = 1 << 16  # images that are mixed with each other; a set of no more than this is permuted as a whole
KEPT = 2  # windows and epochs in memory: a batch may lie across two


class Ordered(Protocol):
    """An endless order of images, each found at once. `n` of them are an epoch."""

    @property
    def n(self) -> int: ...
    def __getitem__(self, c: int, /) -> int:
        """The image at position c, counted over all ranks and steps."""

    def slice(self, c: int, count: int, /) -> list[int]:
        """The images at `count` positions from c on."""

    def window(self, c: int, /) -> tuple[int, list[int]]:
        """A position after c, and the shards, in rising order, of all images from c up to there."""


def indices(order: Ordered, step: int, *, batch_per_rank: int, rank: int, world: int) -> list[int]:
    """The `batch_per_rank` images of one rank in one step."""
    return order.slice((step * world + rank) * batch_per_rank, batch_per_rank)


class _Epoch(NamedTuple):
    """The shards in one epoch's order, cut into windows."""

    shards: NDArray[np.int64]  # [S], counted among those that hold images
    shard_cuts: list[int]  # window w holds shards[shard_cuts[w] : shard_cuts[w + 1]]
    position_cuts: list[int]  # and begins at position position_cuts[w]


class Order:
    """Which image the c-th one shown is, counted over all ranks and steps.

    With epoch, k = divmod(c, n), the shards are permuted and cut into windows of about `window` images, and the images
    of each window are permuted in turn. So any position is found at once, a window needs only its own shards, and
    memory is 8 bytes per shard and per image of a window, whatever n is. Up to `window` images, the order is
    randperm(n, generator(seed, epoch)).

    c = step * W * B + rank * B + j cuts the same sequence into steps and ranks, whatever W and B are.

    Args:
        sizes_S: images of each shard; those of shard s are numbered from sum(sizes_S[:s]) on.
        seed: another seed gives another order.
        window: images; a window is up to one shard larger or smaller.
        images: the images' numbers in a larger set; left out: 0, 1, ....
        name: of this subset; other names give other orders inside the windows, and the same order of shards.
    """

    def __init__(
        self,
        sizes_S: Sequence[int] | NDArray[np.int64],
        *,
        seed: int,
        window: int = WINDOW,
        images: Sequence[int] | NDArray[np.int64] | None = None,
        name: str = "",
    ) -> None:
        sizes = np.asarray(sizes_S, np.int64)
        self._filled, self._total = np.flatnonzero(sizes), len(sizes)
        self._bounds = np.concatenate([[0], np.cumsum(sizes[self._filled])])
        self.n, self.seed = int(self._bounds[-1]), seed
        self._images, self._name = images, name
        if self.n < 1:
            raise ValueError(f"an order needs 1 image or more, got {self.n}")
        self._windows = -(-self.n // window)
        self._epoch = lru_cache(KEPT)(self._cut)
        self._permutation = lru_cache(KEPT)(self._permuted_images)

    def __getitem__(self, c: int) -> int:
        return self.slice(c, 1)[0]

    def slice(self, c: int, count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            epoch, window, offset = self._place(c + len(found))
            found += self._permutation(epoch, window)[offset : offset + count - len(found)].tolist()
        return found if self._images is None else [int(self._images[image]) for image in found]

    def window(self, c: int) -> tuple[int, list[int]]:
        """The window that position c lies in: the position after its last one, and its shards in rising order."""
        epoch, window, offset = self._place(c)
        plan = self._epoch(epoch)
        length = plan.position_cuts[window + 1] - plan.position_cuts[window]
        return c - offset + length, self._filled[self._shards(epoch, window)].tolist()

    def _place(self, c: int) -> tuple[int, int, int]:
        """Epoch, window of the epoch, and offset in the window."""
        epoch, k = divmod(c, self.n)
        cuts = self._epoch(epoch).position_cuts
        window = bisect_right(cuts, k) - 1
        return epoch, window, k - cuts[window]

    def _cut(self, epoch: int) -> _Epoch:
        shards = self._permuted_shards(f"shards/{self.seed}/{epoch}")
        ends = np.cumsum(self._bounds[shards + 1] - self._bounds[shards])
        starts = np.concatenate([[0], ends[:-1]])
        # The window of a shard follows from where it starts, so that windows are of one size, the last one too.
        _, firsts = np.unique(starts * self._windows // self.n, return_index=True)
        return _Epoch(shards, [*firsts.tolist(), len(shards)], [*starts[firsts].tolist(), self.n])

    def _permuted_shards(self, key: str) -> NDArray[np.int64]:
        """The shards in an epoch's order, the same for all subsets of a set but for shards without images of theirs."""
        if not self._name:
            return _randperm(len(self._filled), key)
        place_S = np.argsort(_randperm(self._total, key))
        return np.argsort(place_S[self._filled])

    def _shards(self, epoch: int, window: int) -> NDArray[np.int64]:
        """Counted among those that hold images."""
        plan = self._epoch(epoch)
        return np.sort(plan.shards[plan.shard_cuts[window] : plan.shard_cuts[window + 1]])

    def _permuted_images(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The images of a window in the order shown."""
        shards = self._shards(epoch, window)
        images = np.concatenate([np.arange(self._bounds[s], self._bounds[s + 1]) for s in shards])
        # The first window has the key that an epoch had before there were windows, so that results stay the same.
        suffix = f"/{window}" if window else ""
        return images[_randperm(len(images), f"order/{self._name}{self.seed}/{epoch}{suffix}")]


def _randperm(n: int, key: str) -> NDArray[np.int64]:
    return torch.randperm(n, generator=generator(key)).numpy()


def generator(key: str) -> torch.Generator:
    """A generator of its own for every key."""
    # Hashed: torch's CPU generator uses the low 32 bits of a seed only, and seed + epoch would repeat across seeds.
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)
