"""What a step draws and is shown: random streams per sample, and a rank's batch in microbatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hmgan import ahead, rng
from hmgan.augment.base import uniforms
from hmgan.config.settings import Train
from hmgan.errors import UserError


@dataclass(frozen=True)
class Draws:
    """The random streams of one step, one key per sample of the global batch: any split over ranks draws the same."""

    seed: int
    step: int
    first: int  # global position of the first sample
    batch: int  # samples of the microbatch
    total: int = 0  # samples of the global batch, by which the next step is further on

    def keys(self, stream: str) -> list[int]:
        """One key per sample."""
        keys = rng.keys(self.seed, stream, self.first, self.batch)
        ahead.follow(keys, partial(rng.keys, self.seed, stream, self.first + self.total, self.batch))
        return keys

    def common(self, stream: str) -> int:
        """One key for the whole step, on every rank the same."""
        return rng.key(self.seed, stream, self.step)

    def labels(self, classes: int) -> Tensor:
        """[B] int64, uniform."""
        return (rng.uniform_rows(self.keys("label"), 1)[:, 0] * classes).long()


class Microbatch(NamedTuple):
    """What passes through the networks at once. For a task without images, `real` is empty and labels are drawn."""

    real: Tensor  # [B, 3, H, W] in [-1, 1]
    labels: Tensor  # [B] int64
    draws: Draws


def as_images(images_u8: Tensor) -> Tensor:
    """Uint8 -> [-1, 1] in torch's default dtype, contiguous whatever the loader gives: layouts sum in other orders."""
    return images_u8.contiguous().to(torch.get_default_dtype()) / 127.5 - 1


def mirrored(images: Tensor, keys: Sequence[int]) -> Tensor:
    """Flips each image left to right with probability one half."""
    flip_B = uniforms(keys, 1, images.device)[:, :, None, None] < 0.5
    return torch.where(flip_B, images.flip(3), images)


def microbatch_size(settings: Train, world: int) -> int:
    """Images that pass through the networks at once. Raises UserError if the global batch cannot be split evenly."""
    count = settings.accumulate
    if settings.batch % (world * count):
        split = f"{world} ranks" + (f" of train.accumulate = {count} microbatches" if count > 1 else "")
        change = "--batch or train.accumulate" if count > 1 else "--batch"
        raise UserError(f"train.batch {settings.batch} does not divide over {split}; change {change}")
    return settings.batch // (world * count)
