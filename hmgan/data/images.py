"""What training and evaluation need of a data set, whether one packed set or several as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmgan.data.index import Index
from hmgan.data.order import WINDOW, Ordered
from hmgan.errors import UserError
from hmgan.types import Batch


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How one rank reads a set for training.

    Args:
        start_step: steps already taken; the first batch is that of this step.
        workers: processes that decode ahead; 0 decodes in this one.
        tolerated: share of the set's images that may be damaged before this rank stops. The image that follows in the
            order is shown in place of a damaged one, so every other position keeps its image.
        report: takes a line for each damaged image, the first time that it is met.

    Raises: UserError or ValueError for counts out of range.
    """

    batch_per_rank: int
    rank: int = 0
    world: int = 1
    seed: int
    start_step: int = 0
    workers: int = 0
    tolerated: float = 0.0
    report: Callable[[str], None] = print

    def __post_init__(self) -> None:
        for name, least in (("batch_per_rank", 1), ("workers", 0), ("start_step", 0)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"{name} must be at least {least}, got {value}; raise it")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must lie in 0..{self.world - 1}, got {self.rank}")


class Shown(Protocol):
    """Square images of one size to train on, with labels. A mistake in the data is a UserError."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def resolution(self) -> int: ...

    def unlabelled(self) -> Shown:
        """The same images in the same order, all of one class."""

    def batches(self, reading: Reading, /) -> Iterator[Batch]:
        """Training batches without end; see `loader.batches`."""

    def check_readers(self, world: int, workers: int) -> None:
        """Raises UserError if there is too little to share among so many ranks with so many workers each."""

    def examples(self, columns: int, classes: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Class -> its first images, uint8 [<= columns, 3, H, W]; columns times as many of a single class.

        Args:
            classes: only these; None: all.
        """

    def places(self, step: int, batch: int, seed: int) -> Sequence[tuple[str, str]]:
        """Shard and key of each of a step's images, over all ranks; nothing where that is not known."""

    def indexed(self, what: str) -> Images:
        """These images with random access. Raises UserError, naming what needs it, where there is none."""


class Images(Shown, Protocol):
    """N images in S shards, each known by its number."""

    @property
    def counts(self) -> tuple[int, ...]: ...  # images of each class
    @property
    def labels(self) -> Tensor: ...  # [N] int64, made anew each time
    @property
    def digest(self) -> str: ...  # identifies the images, the labels and their numbers
    @property
    def indexes(self) -> Sequence[Index]: ...  # of the packed sets that they lie in

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> tuple[Tensor, int]: ...  # uint8 [3, H, W], label

    def read_into(self, images: Sequence[int], out_BHW3: NDArray[np.uint8], /) -> list[int]:
        """Decodes images into `out_BHW3`, and returns their labels."""

    def unlabelled(self) -> Images: ...

    def order(self, *, seed: int, batch: int = 1, window: int = WINDOW) -> Ordered:
        """The order in which they are shown; `window` images are shuffled together. `batch` images are a step's."""

    def shard_of(self, i: int, /) -> int:
        """The number of the shard that an image lies in."""

    def place(self, i: int, /) -> tuple[str, str]:
        """The shard that holds an image, and its key in there."""

    def prefetch(self, windows: Sequence[Sequence[int]], /) -> None:
        """Prefetches shards: those of the first window, then those of the next."""

    def fetch(self, items: Iterable[int], /) -> None:
        """Fetches the shards of these images, for processes that cannot do it themselves."""

    def close(self) -> None:
        """Closes the shards; a later read opens them again."""
