"""What training and evaluation need of a data set, be it one packed set or several as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hmgan.data.index import Index
from hmgan.data.order import WINDOW, Ordered


class Images(Protocol):
    """N square images of one size with their labels, in S shards. A mistake in the data is a UserError."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def counts(self) -> tuple[int, ...]: ...  # images of each class
    @property
    def resolution(self) -> int: ...
    @property
    def labels(self) -> Tensor: ...  # [N] int64, made anew each time
    @property
    def digest(self) -> str: ...  # identifies the images, the labels and their numbers
    @property
    def indexes(self) -> Sequence[Index]: ...  # of the packed sets that they lie in

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> tuple[Tensor, int]: ...  # uint8 [3, H, W], label

    def read_into(self, i: int, out_HW3: NDArray[np.uint8], /) -> int:
        """Writes an image's pixels where they are wanted, and returns its label."""

    def unlabelled(self) -> Images:
        """The same images in the same order, all of one class."""

    def order(self, *, seed: int, window: int = WINDOW) -> Ordered:
        """In which they are shown; `window` images are mixed with each other."""

    def shard_of(self, i: int, /) -> int:
        """The number of the shard that an image lies in."""

    def place(self, i: int, /) -> tuple[str, str]:
        """The shard that holds an image, and its key in there."""

    def read_ahead(self, windows: Sequence[Sequence[int]], /) -> None:
        """Have shards at hand soon: those of the first window, then those of the next."""

    def fetch(self, items: Iterable[int], /) -> None:
        """Have the shards of these images at hand, for processes that cannot fetch them themselves."""

    def close(self) -> None:
        """Close the shards; a later read opens them again."""
