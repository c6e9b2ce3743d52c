"""Scores of a generator: fakes drawn by seed, features extracted, distances per class to real images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import Tensor

from hmgan.data.images import Images
from hmgan.errors import unknown
from hmgan.evaluation.counts import check_fakes, check_reals, check_room, check_size
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.features import extract, real_features
from hmgan.evaluation.generator_scores import GENERATOR_SCORES, OF_PERCEPTION, Space, Subject, check_classes
from hmgan.evaluation.score import Line, Score, class_scores
from hmgan.evaluation.sharding import Ranks, sharded
from hmgan.generators.base import Generator
from hmgan.layers.float32 import products
from hmgan.metrics.features import Extractor, SideBySide
from hmgan.metrics.measures import DEFAULT, FEATURE_MEASURES
from hmgan.metrics.networks import load_extractors, load_perceptual

METRICS = (*FEATURE_MEASURES, *GENERATOR_SCORES)


class Judge:
    """Keeps the real features and the extractor, so that every snapshot is scored the same way.

    Made and called on every rank: features are shared work, and the first rank scores them.

    Args:
        extractor: names of networks or NAME:PATH, joined by commas; reports speak of the first.
        perceptual: one such name.
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
        self.networks = SideBySide(load_extractors(extractor)).to(ranks.device)
        if not set(OF_PERCEPTION).isdisjoint(self.metrics):
            load_perceptual(perceptual)  # its name and its file, before any image is drawn
        self.perceptual = perceptual
        self.ranks, self.reals, self.data = ranks, reals, reals.digest
        self.cache = cache
        with products(tf32=False):
            self.real_features = [self.features_of(reals, network) for network in self.extractors]

    @property
    def extractors(self) -> list[Extractor]:
        """The networks, in the order they were named."""
        return cast(list[Extractor], list(self.networks.extractors))

    def features_of(self, images: Images, network: Extractor, limit: int = 10_000) -> dict[str, Tensor]:
        """Class -> [<= limit, F] of real images, kept in the cache; nothing on ranks other than the first."""
        return real_features(images, network, cache=self.cache, ranks=self.ranks, limit=limit)

    @products(tf32=False)
    def __call__(
        self, generator: Generator, classes: tuple[str, ...], per_class: int, seed: int, truncation: float = 1.0
    ) -> list[Score] | None:
        """The metrics per class and their means, with `per_class` fakes of each; None on ranks other than the first."""
        check_fakes(self.metrics, per_class)
        check_room(per_class, len(classes), sum(self.networks.dims))
        check_size(self.reals, generator.resolution)
        fakes = Fakes(generator, classes, per_class, seed, truncation)
        features = {cls: self.drawn(fakes, label) for label, cls in enumerate(classes)}
        if self.ranks.rank > 0:
            return None
        with self.ranks.alone():
            return self._scored(fakes, features)

    def _scored(self, fakes: Fakes, features: Mapping[str, Sequence[Tensor]]) -> list[Score]:
        """The metrics of the fakes, whose features are given for each network."""
        spaces = []
        for i, (network, reals) in enumerate(zip(self.extractors, self.real_features, strict=True)):
            spaces.append(Space(network, reals, {cls: parts[i] for cls, parts in features.items()}))
        measures = [name for name in self.metrics if name in FEATURE_MEASURES]
        scores = [
            score for space in spaces for score in class_scores(space.reals, space.fakes, space.extractor, measures)
        ]
        subject = Subject(fakes, self.reals, spaces, self.perceptual, self.ranks.device)
        for name in self.metrics:
            if name in GENERATOR_SCORES:
                scores += GENERATOR_SCORES[name](subject)
        return scores

    def drawn(self, fakes: Fakes, label: int) -> list[Tensor]:
        """[per_class, F] of one class's fakes, for each network."""

        def compute(first: int, size: int) -> Tensor:
            return extract(fakes.batches(label, range(first, first + size)), self.networks, self.ranks.device)

        return list(sharded(fakes.per_class, self.ranks, compute).split(self.networks.dims, dim=1))

    def line(self, score: Score, kimg: float, snapshot: str, seed: int, truncation: float = 1.0) -> Line:
        """A line of metrics.jsonl: a score, and all that it depends on."""
        protocol: Line = {"data": self.data, "seed": seed, "truncation": truncation, "time": time.time()}
        return {"kimg": kimg, "snapshot": snapshot, **protocol, **score.line()}
