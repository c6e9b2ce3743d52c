"""Features computed by several ranks in runs of whole batches, so that any number of ranks computes the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

BATCH = 64


class Ranks(Protocol):
    """What evaluation needs of `hmgan.train.distributed.runtime.Runtime`."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def gather(self, x: Tensor, /) -> Tensor: ...  # [B, ...] of all ranks, in rank order
    def gather_or_stop(self, x: Tensor, /) -> Tensor: ...  # the same; where a rank was told to stop, none goes on
    def alone(self) -> AbstractContextManager[None]: ...  # around what the first rank does last, without the others


@torch.no_grad()
def sharded(count: int, ranks: Ranks, compute: Callable[[int, int], Tensor]) -> Tensor:
    """[N, F] of N = `count` samples, on every rank.

    Args:
        compute: (first, size) -> [size, F] on the CPU; a function of the samples' positions alone.
    """
    batches = -(-count // BATCH)
    bounds = [min(count, BATCH * (batches * r // ranks.world)) for r in range(ranks.world + 1)]
    sizes = [last - first for first, last in pairwise(bounds)]
    rows = compute(bounds[ranks.rank], sizes[ranks.rank])
    if ranks.world == 1 or count == 0:
        return rows
    # Only equal shapes can be gathered.
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    shares = ranks.gather_or_stop(padded.to(ranks.device)).cpu().split(max(sizes))
    return torch.cat([share[:size] for share, size in zip(shares, sizes, strict=True)])
