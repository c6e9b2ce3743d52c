"""What every set with an index can do in a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hmgan.data.images import Images, Reading
from hmgan.data.loader import batches, read_batch
from hmgan.data.order import indices
from hmgan.types import Batch


class Indexed:
    """For sets of images to inherit from; see the protocol for what each is."""

    def __getitem__(self: Images, i: int) -> tuple[Tensor, int]:
        images_B3HW, labels_B = read_batch(self, [i])
        return images_B3HW[0].contiguous(), int(labels_B[0])

    def indexed(self: Images, what: str) -> Images:
        return self

    def batches(self: Images, reading: Reading) -> Iterator[Batch]:
        return batches(self, reading)

    def check_readers(self, world: int, workers: int) -> None:
        """Any number will do."""

    def places(self: Images, step: int, batch: int, seed: int) -> Sequence[tuple[str, str]]:
        shown = indices(self.order(seed=seed, batch=batch), step, batch_per_rank=batch, rank=0, world=1)
        return [self.place(i) for i in shown]

    def examples(self: Images, columns: int, classes: Sequence[str] | None = None) -> dict[str, Tensor]:
        labels, found = self.labels, {}
        columns = columns if len(self.classes) > 1 else columns * columns
        for name in classes or self.classes:
            chosen = torch.nonzero(labels == self.classes.index(name)).flatten()[:columns].tolist()
            found[name] = torch.stack([self[i][0] for i in chosen])
        return found
