"""Scores of a generator: fakes drawn by seed, features extracted, distances per class to real images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hmgan import rng
from hmgan.assemble import Generator
from hmgan.data.shards import ShardSet
from hmgan.metrics.evaluate import Score, class_scores, extract, intra_class_distance, real_features
from hmgan.metrics.features import load_extractor
from hmgan.report.images import to_uint8

BATCH = 64
DIVERSITY_SAMPLES = 200  # pairs grow with the square


class Verdict(NamedTuple):
    scores: list[Score]
    diversity: dict[str, float]  # class -> mean pairwise feature distance, fake / real


@torch.no_grad()
def fakes(generator: Generator, label: int, count: int, seed: int, truncation: float = 1.0) -> Iterator[Tensor]:
    """uint8 batches [<= 64, 3, H, W] of one class; image i depends on (seed, label, i) alone."""
    device = next(generator.parameters()).device
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        latents = generator.latents(rng.keys(seed, f"evaluate/{label}", first, size))
        images = generator(latents, torch.full((size,), label, device=device), truncation).image
        yield to_uint8(images)


class Judge:
    """Keeps the real features and the extractor, so that every snapshot is scored the same way."""

    def __init__(self, reals: ShardSet, extractor: str, cache: Path | None, device: torch.device) -> None:
        self.extractor = load_extractor(extractor).to(device)
        self.device = device
        self.data = reals.digest
        self.reals = real_features(reals, self.extractor, cache=cache, device=device)

    def __call__(
        self, generator: Generator, classes: tuple[str, ...], per_class: int, seed: int, truncation: float = 1.0
    ) -> Verdict:
        """Frechet and kernel distance per class and their means, with `per_class` fakes of each."""
        features = {
            name: extract(fakes(generator, label, per_class, seed, truncation), self.extractor, self.device)
            for label, name in enumerate(classes)
        }
        diversity = {
            name: intra_class_distance(features[name][:DIVERSITY_SAMPLES])
            / max(intra_class_distance(self.reals[name][:DIVERSITY_SAMPLES]), 1e-12)
            for name in classes
        }
        return Verdict(class_scores(self.reals, features, self.extractor), diversity)

    def line(self, score: Score, kimg: float, snapshot: str, seed: int, truncation: float = 1.0) -> dict[str, Any]:
        """A line of metrics.jsonl: a score, and all that it depends on."""
        protocol = {"data": self.data, "seed": seed, "truncation": truncation, "time": time.time()}
        return {"kimg": kimg, "snapshot": snapshot, **protocol, **score.line()}
