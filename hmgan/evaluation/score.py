"""Scores per class and their mean, each with the protocol that made it. N/M samples, F features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from hmgan.errors import UserError
from hmgan.metrics.features import Extractor, Scorer
from hmgan.metrics.intervals import Interval, of_mean
from hmgan.metrics.measures import DEFAULT, FEATURE_MEASURES

MEAN = "mean"
OWN = "this model"  # whose scores references stand beside
Line = dict[str, str | int | float]  # of metrics.jsonl


class Score(NamedTuple):
    """One number and all that it depends on. Its name carries the extractor; FID and KID are those of Inception."""

    metric: str  # "FD-squeezenet" or "KD-squeezenet"
    cls: str  # a class, or "mean" over the classes
    value: float
    n_real: int  # in the mean's row: the total over the classes
    n_fake: int
    extractor: str
    digest: str  # sha256 of the extractor's weights
    resizer: str
    protocol: str = ""  # the metric's own settings, in words
    low: float | None = None  # of the interval around the value, where it has one
    high: float | None = None

    @classmethod
    def by(cls, scorer: Scorer, metric: str, of: str, value: float, counts: tuple[int, int], protocol: str) -> Score:
        """A value for the class `of`, from (real, fake) counts of images."""
        return cls(metric, of, value, *counts, scorer.name, scorer.digest, scorer.resizer, protocol)

    @classmethod
    def of_line(cls, line: Mapping[str, Any]) -> Score:
        """What `line` wrote; a line may hold other keys, and an early one lacks some."""
        return cls(cls=line["class"], **{field: line[field] for field in cls._fields if field in line})

    def line(self) -> Line:
        """As a line of metrics.jsonl."""
        known = {field: value for field, value in self._asdict().items() if value is not None}
        return {"class" if field == "cls" else field: value for field, value in known.items()}

    def between(self, interval: Interval | None) -> Score:
        """The same with its interval, where there is one."""
        return self if interval is None else self._replace(low=interval.low, high=interval.high)


def class_scores(
    real_features: Mapping[str, Tensor],
    fake_features: Mapping[str, Tensor],
    extractor: Extractor,
    measures: Sequence[str] = DEFAULT,
) -> list[Score]:
    """Every measure for each class, [N, F] against [M, F], and its mean, as the paper's mFID and mKID.

    Args:
        measures: names of FEATURE_MEASURES.
    Raises: UserError when the classes differ, when one is called "mean", or when one has too few samples.
    """
    _check_classes(real_features, fake_features)
    rows = defaultdict(list)  # of each metric
    for name in measures:
        for cls, real_NF in real_features.items():
            counts = len(real_NF), len(fake_features[cls])
            for found in FEATURE_MEASURES[name](real_NF, fake_features[cls]):
                metric = extractor.metric(found.metric)
                score = Score.by(extractor, metric, cls, found.value, counts, found.protocol)
                rows[metric].append(score.between(found.interval))
    return [score for of_metric in rows.values() for score in with_mean(of_metric)]


def with_mean(rows: Sequence[Score]) -> list[Score]:
    """One metric's rows of all classes, and their mean: classes weigh the same, counts are totals."""
    mean = rows[0]._replace(
        cls=MEAN,
        value=sum(row.value for row in rows) / len(rows),
        n_real=sum(row.n_real for row in rows),
        n_fake=sum(row.n_fake for row in rows),
        protocol=" | ".join(dict.fromkeys(row.protocol for row in rows)),
        low=None,
        high=None,
    )
    own = [Interval(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
    interval = of_mean([row.value for row in rows], own) if len(own) == len(rows) else None
    return [*rows, mean.between(interval)]


def _check_classes(real: Mapping[str, Tensor], fake: Mapping[str, Tensor]) -> None:
    if not real or set(real) != set(fake):
        raise UserError(
            f"real and fake features must cover the same classes, got {sorted(real)} and {sorted(fake)}; "
            "sample every class of the data"
        )
    if MEAN in real:
        raise UserError(f"a class is named '{MEAN}', which is the name of the row of means; rename the class")
    for side, features in (("real", real), ("fake", fake)):
        for cls, rows in features.items():
            if len(rows) < 2:
                raise UserError(f"class '{cls}' has {len(rows)} {side} samples, a score needs 2 or more; add images")
