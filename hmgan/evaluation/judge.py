"""Scores of a generator: fakes drawn by seed, features extracted, distances per class to real images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hmgan.data.images import Images
from hmgan.errors import unknown
from hmgan.evaluation.fakes import fakes
from hmgan.evaluation.features import extract, real_features
from hmgan.evaluation.generator_scores import BEHAVIOURS, OF_PERCEPTION, Subject, check_classes
from hmgan.evaluation.score import Score, class_scores, intra_class_distance
from hmgan.evaluation.sharding import Ranks, sharded
from hmgan.generators.base import Generator
from hmgan.layers.float32 import products
from hmgan.metrics.measures import DEFAULT, FEATURE_MEASURES
from hmgan.metrics.networks import load_extractor, load_perceptual

METRICS = (*FEATURE_MEASURES, *BEHAVIOURS)
DIVERSITY_SAMPLES = 200  # pairs grow with the square


class Verdict(NamedTuple):
    scores: list[Score]
    diversity: dict[str, float]  # class -> mean pairwise feature distance, fake / real


class Judge:
    """Keeps the real features and the extractor, so that every snapshot is scored the same way.

    Made and called on every rank: features are shared work, and the first rank scores them.

    Args:
        extractor, perceptual: names of networks, or NAME:PATH.
        metrics: names of METRICS.
    Raises: UserError for an unknown metric or network.
    """

    def __init__(
        self,
        reals: Images,
        extractor: str,
        cache: Path | None,
        ranks: Ranks,
        metrics: Sequence[str] = DEFAULT,
        perceptual: str = "squeezenet-layers",
    ) -> None:
        for name in metrics:
            if name not in METRICS:
                raise unknown("metric", name, METRICS)
        self.metrics = tuple(dict.fromkeys(metrics))
        check_classes(self.metrics, len(reals.classes))
        self.extractor = load_extractor(extractor).to(ranks.device)
        if not set(OF_PERCEPTION).isdisjoint(self.metrics):
            load_perceptual(perceptual)  # its name and its file, before any image is drawn
        self.perceptual = perceptual
        self.ranks = ranks
        self.images = reals
        self.data = reals.digest
        with products(tf32=False):
            self.reals = real_features(reals, self.extractor, cache=cache, ranks=ranks)

    def __call__(
        self, generator: Generator, classes: tuple[str, ...], per_class: int, seed: int, truncation: float = 1.0
    ) -> Verdict | None:
        """The metrics per class and their means, with `per_class` fakes of each; None on ranks other than the first."""
        with products(tf32=False):
            return self._verdict(generator, classes, per_class, seed, truncation)

    def _verdict(
        self, generator: Generator, classes: tuple[str, ...], per_class: int, seed: int, truncation: float
    ) -> Verdict | None:
        features = {
            name: self._features(generator, label, per_class, seed, truncation) for label, name in enumerate(classes)
        }
        if self.ranks.rank > 0:
            return None
        spread = {
            name: intra_class_distance(features[name][:DIVERSITY_SAMPLES])
            / max(intra_class_distance(self.reals[name][:DIVERSITY_SAMPLES]), 1e-12)
            for name in classes
        }
        measures = [name for name in self.metrics if name in FEATURE_MEASURES]
        scores = class_scores(self.reals, features, self.extractor, measures)
        subject = Subject(
            generator=generator,
            classes=classes,
            reals=self.images,
            real_features=self.reals,
            fake_features=features,
            extractor=self.extractor,
            perceptual=self.perceptual,
            per_class=per_class,
            seed=seed,
            truncation=truncation,
            device=self.ranks.device,
        )
        for name in self.metrics:
            if name in BEHAVIOURS:
                scores += BEHAVIOURS[name](subject)
        return Verdict(scores, spread)

    def _features(self, generator: Generator, label: int, per_class: int, seed: int, truncation: float) -> Tensor:
        """[per_class, F] of one class's fakes."""

        def compute(first: int, size: int) -> Tensor:
            drawn = fakes(generator, label, size, seed, truncation, first)
            return extract(drawn, self.extractor, self.ranks.device)

        return sharded(per_class, self.ranks, compute)

    def line(self, score: Score, kimg: float, snapshot: str, seed: int, truncation: float = 1.0) -> dict[str, Any]:
        """A line of metrics.jsonl: a score, and all that it depends on."""
        protocol = {"data": self.data, "seed": seed, "truncation": truncation, "time": time.time()}
        return {"kimg": kimg, "snapshot": snapshot, **protocol, **score.line()}
