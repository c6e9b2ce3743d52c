"""The global order of the images: a formula, the same for every number of ranks. n images, S shards, W ranks of B."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

WINDOW = 1 << 16  # images that are mixed with each other; a set of no more than this is permuted as a whole
KEPT = 2  # a batch may lie across two windows, and across two epochs


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Ordered(Protocol):
    """Images in an order without end, each found at once. `n` of them are an epoch."""

    @property
    def n(self) -> int: ...
    def __getitem__(self, c: int, /) -> int:
        """The image at position c, counted over all ranks and steps."""

    def window(self, c: int, /) -> tuple[int, list[int]]:
        """A position after c, and the shards, in rising order, of all images from c on up to there."""


def indices(order: Ordered, step: int, *, batch_per_rank: int, rank: int, world: int) -> list[int]:
    """The `batch_per_rank` images of one rank in one step."""
    first = (step * world + rank) * batch_per_rank
    return [order[c] for c in range(first, first + batch_per_rank)]


class _Epoch(NamedTuple):
    """The shards in one epoch's order, cut into windows."""

    shards: NDArray[np.int64]  # [S], counted among those that hold images
    shard_cuts: list[int]  # window w holds shards[shard_cuts[w] : shard_cuts[w + 1]]
    position_cuts: list[int]  # and the positions from position_cuts[w] on


class Order:
    """Which image the c-th one shown is, counted over all ranks and steps.

    Epoch, k = divmod(c, n). The shards are permuted and cut into windows of about `window` images; position k then is
    an image of its window, whose images are permuted in turn. So any position is found at once, a window needs its own
    shards only, and memory is 8 bytes a shard and an image of a window, whatever n is. Where one window holds all, as
    it does up to `window` images, the order is randperm(n, generator(seed, epoch)).

    c = step * W * B + rank * B + j cuts the same sequence into steps and ranks, whatever W and B are.

    Args:
        sizes_S: images of each shard; those of shard s are numbered from sum(sizes_S[:s]) on.
        seed: another seed gives another order.
        window: images; a window is up to one shard larger or smaller.
        images: their numbers, where this is the order of a part of a set; left out: 0, 1, ....
        name: of the part; parts of other names have other orders inside their windows, and the same order of shards.
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
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._permutations: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()

    def __getitem__(self, c: int) -> int:
        epoch, window, offset = self._place(c)
        image = int(kept(self._permutations, (epoch, window), lambda: self._permutation(epoch, window))[offset])
        return image if self._images is None else int(self._images[image])

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

    def _epoch(self, epoch: int) -> _Epoch:
        return kept(self._epochs, epoch, lambda: self._cut(epoch))

    def _cut(self, epoch: int) -> _Epoch:
        shards = self._permuted(f"shards/{self.seed}/{epoch}")
        ends = np.cumsum(self._bounds[shards + 1] - self._bounds[shards])
        starts = np.concatenate([[0], ends[:-1]])
        # The window of a shard follows from where it starts, so that windows are of one size, the last one too.
        _, firsts = np.unique(starts * self._windows // self.n, return_index=True)
        return _Epoch(shards, [*firsts.tolist(), len(shards)], [*starts[firsts].tolist(), self.n])

    def _permuted(self, key: str) -> NDArray[np.int64]:
        """The shards in an epoch's order. Parts of a set leave those out that they have no image in, and agree else."""
        if not self._name:
            return _randperm(len(self._filled), key)
        place_S = np.argsort(_randperm(self._total, key))
        return np.argsort(place_S[self._filled])

    def _shards(self, epoch: int, window: int) -> NDArray[np.int64]:
        """Counted among those that hold images."""
        plan = self._epoch(epoch)
        return np.sort(plan.shards[plan.shard_cuts[window] : plan.shard_cuts[window + 1]])

    def _permutation(self, epoch: int, window: int) -> NDArray[np.int64]:
        """The images of a window in the order shown."""
        shards = self._shards(epoch, window)
        images = np.concatenate([np.arange(self._bounds[s], self._bounds[s + 1]) for s in shards])
        # The first window's key is that of an epoch without windows: results from before there were any stay the same.
        suffix = f"/{window}" if window else ""
        return images[_randperm(len(images), f"order/{self._name}{self.seed}/{epoch}{suffix}")]


def kept(cache: OrderedDict[K, V], key: K, make: Callable[[], V], most: int = KEPT) -> V:
    """The value of a key, made where it is not among the last `most` that were asked for."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > most:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def _randperm(n: int, key: str) -> NDArray[np.int64]:
    return torch.randperm(n, generator=generator(key)).numpy()


def generator(key: str) -> torch.Generator:
    # Hashed: torch's CPU generator uses the low 32 bits of a seed only, and seed + epoch would repeat across seeds.
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(seed)
