"""Fakes to be scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from hmgan import rng
from hmgan.evaluation.sharding import BATCH
from hmgan.generators.base import Generator
from hmgan.pictures.class_images import class_images


class Fakes(NamedTuple):
    """A generator and how it is drawn from: image i of a class depends on (seed, class, i) alone."""

    generator: Generator
    classes: tuple[str, ...]
    per_class: int
    seed: int
    truncation: float = 1.0

    def batches(self, label: int, which: range, *, shared_style: bool = False) -> Iterator[Tensor]:
        """uint8 [<= 64, 3, H, W] of one class; with `shared_style`, image i has one z and one noise in every class."""
        stream = "evaluate/style" if shared_style else f"evaluate/{label}"
        for batch in (which[i : i + BATCH] for i in range(0, len(which), BATCH)):
            latents = self.generator.latents(rng.keys(self.seed, stream, batch.start, len(batch)))
            yield class_images(self.generator, latents, label, self.truncation)
