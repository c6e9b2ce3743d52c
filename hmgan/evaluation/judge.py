"""Scores of a generator: fakes drawn by seed, features extracted, distances per class to real images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from hmgan.data.images import Images
from hmgan.errors import unknown
from hmgan.evaluation.counts import check_fakes, check_reals, check_size
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.features import extract, real_features
from hmgan.evaluation.generator_scores import GENERATOR_SCORES, OF_PERCEPTION, Subject, check_classes
from hmgan.evaluation.score import Line, Score, class_scores, intra_class_distance
from hmgan.evaluation.sharding import Ranks, sharded
from hmgan.generators.base import Generator
from hmgan.layers.float32 import products
from hmgan.metrics.measures import DEFAULT, FEATURE_MEASURES
from hmgan.metrics.networks import load_extractor, load_perceptual

METRICS = (*FEATURE_MEASURES, *GENERATOR_SCORES)
DIVERSITY_SAMPLES = 200  # pairs grow with the square


class Verdict(NamedTuple):
    """What a generator scores."""

    scores: list[Score]
    diversity: dict[str, float]  # class -> mean pairwise feature distance, fake / real


class Judge:
    """Keeps the real features and the extractor, so that every snapshot is scored the same way.

    Made and called on every rank: features are shared work, and the first rank scores them.

    Args:
        extractor, perceptual: names of networks, or NAME:PATH.
        cache: the folder of `real_features`.
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
        check_reals(self.metrics, reals)
        self.extractor = load_extractor(extractor).to(ranks.device)
        if not set(OF_PERCEPTION).isdisjoint(self.metrics):
            load_perceptual(perceptual)  # its name and its file, before any image is drawn
        self.perceptual = perceptual
        self.ranks, self.reals, self.data = ranks, reals, reals.digest
        with products(tf32=False):
            self.real_features = real_features(reals, self.extractor, cache=cache, ranks=ranks)

    @products(tf32=False)
    def __call__(
        self, generator: Generator, classes: tuple[str, ...], per_class: int, seed: int, truncation: float = 1.0
    ) -> Verdict | None:
        """The metrics per class and their means, with `per_class` fakes of each; None on ranks other than the first."""
        check_fakes(self.metrics, per_class)
        check_size(self.reals, generator.resolution)
        fakes = Fakes(generator, classes, per_class, seed, truncation)
        features = {cls: self._features(fakes, label) for label, cls in enumerate(classes)}
        if self.ranks.rank > 0:
            return None
        spread = {
            cls: intra_class_distance(features[cls][:DIVERSITY_SAMPLES])
            / max(intra_class_distance(self.real_features[cls][:DIVERSITY_SAMPLES]), 1e-12)
            for cls in classes
        }
        measures = [name for name in self.metrics if name in FEATURE_MEASURES]
        scores = class_scores(self.real_features, features, self.extractor, measures)
        subject = Subject(
            fakes, features, self.reals, self.real_features, self.extractor, self.perceptual, self.ranks.device
        )
        for name in self.metrics:
            if name in GENERATOR_SCORES:
                scores += GENERATOR_SCORES[name](subject)
        return Verdict(scores, spread)

    def _features(self, fakes: Fakes, label: int) -> Tensor:
        """[per_class, F] of one class's fakes."""

        def compute(first: int, size: int) -> Tensor:
            return extract(fakes.batches(label, range(first, first + size)), self.extractor, self.ranks.device)

        return sharded(fakes.per_class, self.ranks, compute)

    def line(self, score: Score, kimg: float, snapshot: str, seed: int, truncation: float = 1.0) -> Line:
        """A line of metrics.jsonl: a score, and all that it depends on."""
        protocol: Line = {"data": self.data, "seed": seed, "truncation": truncation, "time": time.time()}
        return {"kimg": kimg, "snapshot": snapshot, **protocol, **score.line()}
