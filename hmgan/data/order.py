"""The global order of the images: a formula, the same for every number of ranks. n images, W ranks of B."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor


class Order:
    """Which image the c-th one shown is, counted over all ranks and steps.

    Epoch, k = divmod(c, n); index = randperm(n, generator(seed, epoch))[k]. Any position is found at once, and
    c = step * W * B + rank * B + j cuts the same sequence into steps and ranks, whatever W and B are.

    Args:
        n: images in the set, at least 1.
        seed: another seed gives another order.
    """

    def __init__(self, n: int, *, seed: int) -> None:
        if n < 1:
            raise ValueError(f"an order needs 1 image or more, got {n}")
        self.n, self.seed = n, seed
        self._permutations: OrderedDict[int, Tensor] = OrderedDict()

    def __getitem__(self, c: int) -> int:
        epoch, k = divmod(c, self.n)
        return int(self._permutation(epoch)[k])

    def indices(self, step: int, *, batch_per_rank: int, rank: int, world: int) -> list[int]:
        """The `batch_per_rank` images of one rank in one step."""
        first = (step * world + rank) * batch_per_rank
        return [self[c] for c in range(first, first + batch_per_rank)]

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            rng = torch.Generator().manual_seed(_key(self.seed, epoch))
            self._permutations[epoch] = torch.randperm(self.n, generator=rng)
            if len(self._permutations) > 2:  # a batch may lie across two epochs
                self._permutations.popitem(last=False)
        return self._permutations[epoch]


def _key(seed: int, epoch: int) -> int:
    # Hashed: torch's CPU generator uses the low 32 bits of a seed only, and seed + epoch would repeat across seeds.
    return int.from_bytes(hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()[:8], "little") >> 1
