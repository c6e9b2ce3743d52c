"""Batches for one rank, from any step on; and all images of a class, for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count, repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from hmgan.data.images import STRICT, Images, Tolerance
from hmgan.data.order import WINDOW
from hmgan.errors import DamageError, UserError
from hmgan.types import Batch


def batches(
    data: Images,
    *,
    batch_per_rank: int,
    rank: int,
    world: int,
    seed: int,
    start_step: int = 0,
    workers: int = 0,
    tolerance: Tolerance = STRICT,
) -> Iterator[Batch]:
    """Training batches without end, images uint8 [B, 3, H, W], the channels of a pixel side by side in memory.

    The batch of a step depends on the arguments only: not on `workers`, nor on where the run was resumed. Do not hand
    it to `accelerate.prepare`, which would shard it a second time.

    Args:
        start_step: steps already taken; the first batch is that of this step.
        workers: processes that decode ahead; 0 decodes in this one. Only this one asks an object store for anything.
        tolerance: of damaged images.

    Raises: UserError for counts out of range, a store that fails, or more damaged images than tolerated.
    """
    check_counts(batch_per_rank, rank, world, start_step, workers)
    return _batches(_Steps(data, seed, batch_per_rank, rank, world), start_step, workers, tolerance)


def check_counts(batch_per_rank: int, rank: int, world: int, start_step: int, workers: int) -> None:
    """Raises UserError for counts out of range."""
    for name, value, least in (
        ("data.batch_per_rank", batch_per_rank, 1),
        ("data.workers", workers, 0),
        ("start_step", start_step, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}; raise it")
    if not 0 <= rank < world:
        raise ValueError(f"rank must lie in 0..{world - 1}, got {rank}")


def _read(data: Images, places: Sequence[int], read: Callable[[int, NDArray[np.uint8]], int]) -> Batch:
    """One image after the other, each decoded in its place in the batch."""
    # numpy's memory and not torch's: the kernel backs large batches of it with large pages, and faults far less often.
    pixels_BHW3 = np.empty((len(places), data.resolution, data.resolution, 3), np.uint8)
    labels = [read(place, out_HW3) for place, out_HW3 in zip(places, pixels_BHW3, strict=True)]
    return Batch(torch.from_numpy(pixels_BHW3).permute(0, 3, 1, 2), torch.tensor(labels))


class _Steps:
    """The images of every step of one rank."""

    def __init__(self, data: Images, seed: int, batch: int, rank: int, world: int) -> None:
        self.data, self.batch, self.rank, self.world = data, batch, rank, world
        self.order = data.order(seed=seed, window=WINDOW)
        self._ahead_until = -1  # position at which the window ends whose shards are at hand or on their way

    def positions(self, step: int) -> range:
        first = (step * self.world + self.rank) * self.batch
        return range(first, first + self.batch)

    def read_ahead(self, step: int) -> None:
        """Has reading ahead go on as far as the images of a step need."""
        last = self.positions(step)[-1]
        if last >= self._ahead_until:
            self._ahead_until, shards = self.order.window(last)
            _, following = self.order.window(self._ahead_until)
            self.data.read_ahead([self._rotated(shards), self._rotated(following)])

    def images(self, step: int) -> list[int]:
        return [self.order[c] for c in self.positions(step)]

    def _rotated(self, shards: list[int]) -> list[int]:
        """Ranks of one machine share a cache: each begins elsewhere, and finds there what the others have fetched."""
        first = len(shards) * self.rank // self.world
        return shards[first:] + shards[:first]


def _batches(steps: _Steps, start: int, workers: int, tolerance: Tolerance) -> Iterator[Batch]:
    damaged: set[int] = set()
    told: set[str] = set()

    def read(position: int, out_HW3: NDArray[np.uint8]) -> int:
        """The image at a position of the order, or at the next one that is whole."""
        for place in count(position):
            image = steps.order[place]
            try:
                return steps.data.read_into(image, out_HW3)
            except DamageError as error:
                damaged.add(image)
                if len(damaged) > tolerance.share * len(steps.data):
                    raise
                if str(error) not in told:
                    told.add(str(error))
                    tolerance.report(f"left out, {len(damaged)} of {len(steps.data)} images by now: {error}")
        raise AssertionError

    ahead = _decoded_ahead(steps, start, workers) if workers else repeat(None)
    for step, batch in zip(count(start), ahead, strict=False):
        if not workers:
            steps.read_ahead(step)
        yield _read(steps.data, steps.positions(step), read) if batch is None else batch


class _Reader:
    """Reads a batch at a time in a worker; None stands for one that cannot be read there."""

    def __init__(self, data: Images) -> None:
        self._data = data

    def __getitems__(self, images: list[int]) -> Batch | None:
        try:
            return _read(self._data, images, self._data.read_into)
        except UserError:
            return None


def as_read(result: Any) -> Any:
    return result


def _decoded_ahead(steps: _Steps, start: int, workers: int) -> Iterator[Batch | None]:
    def at_hand() -> Iterator[list[int]]:
        for step in count(start):
            steps.read_ahead(step)
            images = steps.images(step)
            with suppress(DamageError):  # told when its turn comes
                steps.data.fetch(images)
            yield images

    loader: Iterable[Batch | None] = DataLoader(
        _Reader(steps.data),  # type: ignore[arg-type]
        batch_sampler=at_hand(),
        num_workers=workers,
        collate_fn=as_read,
        pin_memory=torch.cuda.is_available(),  # in a thread beside this one
        # Its own generator: DataLoader seeds its workers from the global one otherwise, and shifts every other draw.
        generator=torch.Generator(),
    )
    yield from loader
