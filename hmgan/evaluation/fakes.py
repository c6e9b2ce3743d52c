"""Fakes to be scored: image i of a class depends on (seed, class, i) alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hmgan import rng
from hmgan.evaluation.sharding import BATCH
from hmgan.generators.base import Generator
from hmgan.pictures.class_images import class_images


def fakes(
    generator: Generator, label: int, count: int, seed: int, truncation: float = 1.0, first: int = 0
) -> Iterator[Tensor]:
    """uint8 batches [<= 64, 3, H, W] of images first..first + count - 1 of one class."""
    return _drawn(generator, label, range(first, first + count), seed, f"evaluate/{label}", truncation)


def fakes_of_shared_style(
    generator: Generator, label: int, count: int, seed: int, truncation: float = 1.0
) -> Iterator[Tensor]:
    """The same, but image i has one z and one noise in every class."""
    return _drawn(generator, label, range(count), seed, "evaluate/style", truncation)


@torch.no_grad()
def _drawn(
    generator: Generator, label: int, places: range, seed: int, stream: str, truncation: float
) -> Iterator[Tensor]:
    for batch in (places[i : i + BATCH] for i in range(0, len(places), BATCH)):
        latents = generator.latents(rng.keys(seed, stream, batch.start, len(batch)))
        yield class_images(generator, latents, label, truncation)
