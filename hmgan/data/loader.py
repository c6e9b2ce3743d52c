"""Batches for one rank, from any step on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from hmgan.data.images import Images, Reading
from hmgan.data.order import WINDOW
from hmgan.errors import DamageError, UserError
from hmgan.types import Batch

T = TypeVar("T")


def batches(data: Images, reading: Reading) -> Iterator[Batch]:
    """Training batches without end, images uint8 [B, 3, H, W], the channels of a pixel side by side in memory.

    A step's batch depends on neither the number of workers nor where the run was resumed. Only this process asks an
    object store for anything. Do not hand the batches to `accelerate.prepare`, which would shard them a second time.

    Raises: UserError for a store that fails, or more damaged images than tolerated.
    """
    steps = _Steps(data, reading)
    damaged: set[int] = set()
    told: set[str] = set()

    def read(position: int, out_HW3: NDArray[np.uint8]) -> int:
        """Reads the image at a position of the order, or at the next one that is whole."""
        for image in map(steps.order.__getitem__, count(position)):
            try:
                return data.read_into([image], out_HW3[None])[0]
            except DamageError as error:
                damaged.add(image)
                if len(damaged) > reading.tolerated * len(data):
                    raise
                if str(error) not in told:
                    told.add(str(error))
                    reading.report(f"left out, {len(damaged)} of {len(data)} images by now: {error}")
        raise AssertionError

    decoded = _decoded_ahead(steps, reading) if reading.workers else _decoded_here(steps, reading)
    for step, batch in zip(count(reading.start_step), decoded, strict=False):
        yield read_each(data.resolution, steps.positions(step), read) if batch is None else batch


def read_batch(data: Images, images: Sequence[int]) -> Batch:
    """Reads images, each decoded in its place in the batch. Raises UserError for one that cannot be read."""
    pixels_BHW3 = _pixels(len(images), data.resolution)
    return _batch(pixels_BHW3, data.read_into(images, pixels_BHW3))


def read_each(size: int, items: Sequence[T], read: Callable[[T, NDArray[np.uint8]], int]) -> Batch:
    """Reads images of `size` pixels one after the other, each decoded in its place in the batch."""
    pixels_BHW3 = _pixels(len(items), size)
    return _batch(pixels_BHW3, [read(item, out_HW3) for item, out_HW3 in zip(items, pixels_BHW3, strict=True)])


def _pixels(count: int, size: int) -> NDArray[np.uint8]:
    # numpy's memory and not torch's: the kernel backs large batches of it with large pages, and faults far less often.
    return np.empty((count, size, size, 3), np.uint8)


def _batch(pixels_BHW3: NDArray[np.uint8], labels: list[int]) -> Batch:
    return Batch(torch.from_numpy(pixels_BHW3).permute(0, 3, 1, 2), torch.tensor(labels))


class _Steps:
    """The images of every step of one rank."""

    def __init__(self, data: Images, reading: Reading) -> None:
        self.data, self._reading = data, reading
        self.order = data.order(seed=reading.seed, batch=reading.batch_per_rank * reading.world, window=WINDOW)
        self._ahead_until = -1  # position at which the window ends whose shards are at hand or on their way

    def positions(self, step: int) -> range:
        first = (step * self._reading.world + self._reading.rank) * self._reading.batch_per_rank
        return range(first, first + self._reading.batch_per_rank)

    def images(self, step: int) -> list[int]:
        positions = self.positions(step)
        return self.order.slice(positions.start, len(positions))

    def prefetch(self, step: int) -> None:
        """Prefetches the shards that the images of a step need."""
        last = self.positions(step)[-1]
        if last >= self._ahead_until:
            self._ahead_until, shards = self.order.window(last)
            _, following = self.order.window(self._ahead_until)
            self.data.prefetch([self._rotated(shards), self._rotated(following)])

    def _rotated(self, shards: list[int]) -> list[int]:
        """Ranks of one machine share a cache: each begins elsewhere, and finds there what the others have fetched."""
        first = len(shards) * self._reading.rank // self._reading.world
        return shards[first:] + shards[:first]


class _Reader:
    """Reads a batch at a time in a worker; None stands for one that cannot be read there."""

    def __init__(self, data: Images) -> None:
        self._data = data

    def __getitems__(self, images: list[int]) -> Batch | None:
        try:
            return read_batch(self._data, images)
        except UserError:
            return None


def as_read(result: Any) -> Any:
    """A `collate_fn` that leaves what was read as it is."""
    return result


def _decoded_here(steps: _Steps, reading: Reading) -> Iterator[Batch | None]:
    for step in count(reading.start_step):
        steps.prefetch(step)
        batch = None
        with suppress(DamageError):  # read one by one, which tells of each
            batch = read_batch(steps.data, steps.images(step))
        yield batch


def _decoded_ahead(steps: _Steps, reading: Reading) -> Iterator[Batch | None]:
    def at_hand() -> Iterator[list[int]]:
        for step in count(reading.start_step):
            steps.prefetch(step)
            images = steps.images(step)
            with suppress(DamageError):  # told when its turn comes
                steps.data.fetch(images)
            yield images

    loader: Iterable[Batch | None] = DataLoader(
        _Reader(steps.data),  # type: ignore[arg-type]
        batch_sampler=at_hand(),
        num_workers=reading.workers,
        collate_fn=as_read,
        pin_memory=torch.cuda.is_available(),  # in a thread beside this one
        # Its own generator: DataLoader seeds its workers from the global one otherwise, and shifts every other draw.
        generator=torch.Generator(),
    )
    yield from loader
