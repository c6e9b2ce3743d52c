"""Features computed by several ranks. Shares are runs of whole batches, so any number of ranks computes the same ones.

N samples, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

BATCH = 64


class Ranks(Protocol):
    """What of `hmgan.train.distributed.runtime.Runtime` is needed here."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def gather(self, x: Tensor, /) -> Tensor: ...  # [B, ...] of all ranks, in rank order


@dataclass(frozen=True)
class Alone:
    """One process that does all of the work."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def gather(self, x: Tensor) -> Tensor:
        return x


@torch.no_grad()
def sharded(count: int, ranks: Ranks, compute: Callable[[int, int], Tensor]) -> Tensor:
    """[N, F] of samples 0..count - 1, on every rank.

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
