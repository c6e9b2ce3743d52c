"""Batches for one rank, from any step on; and all images of a class, for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hmgan.data.order import Order
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError
from hmgan.types import Batch


def batches(
    data: ShardSet, *, batch_per_rank: int, rank: int, world: int, seed: int, start_step: int = 0, workers: int = 0
) -> Iterator[Batch]:
    """Training batches without end, images uint8 [B, 3, H, W].

    The batch of a step depends on the arguments only: not on `workers`, nor on where the run was resumed. Do not hand
    it to `accelerate.prepare`, which would shard it a second time.

    Args:
        start_step: steps already taken; the first batch is that of this step.
        workers: processes that read ahead; 0 reads in this one.

    Raises: UserError for counts out of range, or an image that cannot be read.
    """
    for name, value, least in (
        ("data.batch_per_rank", batch_per_rank, 1),
        ("data.workers", workers, 0),
        ("start_step", start_step, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}; raise it")
    if not 0 <= rank < world:
        raise ValueError(f"rank must lie in 0..{world - 1}, got {rank}")
    order = Order(len(data), seed=seed)

    def steps() -> Iterator[list[int]]:
        for step in count(start_step):
            yield order.indices(step, batch_per_rank=batch_per_rank, rank=rank, world=world)

    return _read_ahead(data, steps(), workers) if workers else (_collate([data[i] for i in ids]) for ids in steps())


def all_of_class(
    data: ShardSet, label: int, *, limit: int | None = None, batch: int = 64, rank: int = 0, world: int = 1
) -> Iterator[Tensor]:
    """The images of one class in the order of the index, uint8 [<= batch, 3, H, W].

    Args:
        limit: images at most, counted over all ranks.
        rank, world: this rank takes every world-th image, beginning with its own number.
    """
    chosen = torch.nonzero(data.labels == label).flatten()[:limit][rank::world].tolist()
    for first in range(0, len(chosen), batch):
        yield torch.stack([data[i][0] for i in chosen[first : first + batch]])


def _collate(samples: Sequence[tuple[Tensor, int]]) -> Batch:
    return Batch(torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples]))


class _Reader:
    """Reads a batch at a time in a worker. An error comes back as a value: DataLoader would add a traceback to it."""

    def __init__(self, data: ShardSet) -> None:
        self._data = data

    def __getitems__(self, ids: list[int]) -> Batch | UserError:
        try:
            return _collate([self._data[i] for i in ids])
        except UserError as error:
            return error


def _as_read(result: Any) -> Any:
    return result


def _read_ahead(data: ShardSet, steps: Iterable[list[int]], workers: int) -> Iterator[Batch]:
    loader: Iterable[Batch | UserError] = DataLoader(
        _Reader(data),  # type: ignore[arg-type]
        batch_sampler=steps,
        num_workers=workers,
        collate_fn=_as_read,
        # Its own generator: DataLoader seeds its workers from the global one otherwise, and shifts every other draw.
        generator=torch.Generator(),
    )
    for result in loader:
        if isinstance(result, UserError):
            raise result
        yield result
