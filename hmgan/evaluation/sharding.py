"""Features computed by several ranks, each a run of whole batches, so that any number computes the same. N samples."""

from __future__ import annotations

from collections.abc import Callable
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


@torch.no_grad()
def sharded(count: int, ranks: Ranks, compute: Callable[[int, int], Tensor]) -> Tensor:
    """[N, F] of samples 0..count - 1, on every rank; F features.

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
    parts = ranks.gather(padded.to(ranks.device)).cpu().split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
