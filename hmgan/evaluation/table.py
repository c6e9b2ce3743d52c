"""Scores per class and their mean, with the protocol that made them. B batch, N/M samples, F features, H/W pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from hmgan.errors import UserError
from hmgan.evaluation.sharding import BATCH, Alone, Ranks, sharded
from hmgan.files import write_atomically
from hmgan.metrics.features import Extractor
from hmgan.metrics.measures import DEFAULT, FEATURE_MEASURES, arrow

MEAN = "mean"
ALONE = Alone()


class LabelledImages(Protocol):
    """What evaluation needs of a data set; `hmgan.data.shards.ShardSet` has it."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Tensor: ...  # [N] int64
    @property
    def digest(self) -> str: ...
    def __getitem__(self, i: int, /) -> tuple[Tensor, int]: ...  # uint8 [3, H, W], label


class Named(Protocol):
    """A network that scores: an extractor, or a perceptual distance."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def resizer(self) -> str: ...


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

    @classmethod
    def by(cls, judge: Named, metric: str, of: str, value: float, counts: tuple[int, int], protocol: str) -> Score:
        """A value for the class `of`, from (real, fake) counts of images, by the network that `judge` is."""
        return cls(metric, of, value, *counts, judge.name, judge.digest, judge.resizer, protocol)

    def line(self) -> dict[str, str | int | float]:
        """As a line of metrics.jsonl."""
        return {"class" if field == "cls" else field: value for field, value in self._asdict().items()}


def class_scores(
    real_features: Mapping[str, Tensor],
    fake_features: Mapping[str, Tensor],
    extractor: Extractor,
    measures: Sequence[str] = DEFAULT,
) -> list[Score]:
    """Every measure for each class, [N, F] against [M, F], and its mean.

    The mean weighs classes equally, as the paper's mFID and mKID do; its row carries the total counts.

    Args:
        measures: names of FEATURE_MEASURES.
    Raises: UserError when the classes differ, when one is called "mean", or when one has too few samples.
    """
    _check_classes(real_features, fake_features)
    scores = []
    for name in measures:
        rows = [
            Score.by(
                extractor,
                extractor.metric(found.metric),
                cls,
                found.value,
                (len(real_NF), len(fake_features[cls])),
                found.protocol,
            )
            for cls, real_NF in real_features.items()
            for found in FEATURE_MEASURES[name](real_NF, fake_features[cls])
        ]
        for metric in dict.fromkeys(row.metric for row in rows):
            scores += with_mean([row for row in rows if row.metric == metric])
    return scores


def with_mean(rows: Sequence[Score]) -> list[Score]:
    """One metric's rows of all classes, and their mean: classes weigh the same, counts are totals."""
    return [
        *rows,
        rows[0]._replace(
            cls=MEAN,
            value=sum(row.value for row in rows) / len(rows),
            n_real=sum(row.n_real for row in rows),
            n_fake=sum(row.n_fake for row in rows),
            protocol=" | ".join(dict.fromkeys(row.protocol for row in rows)),
        ),
    ]


def extract(batches: Iterable[Tensor], extractor: Extractor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 batches [B, 3, H, W] -> [N, F] float64 on the CPU. The extractor moves to `device`."""
    extractor = extractor.to(device)
    rows = [extractor(images_B3HW.to(device)).cpu() for images_B3HW in batches]
    return torch.cat(rows) if rows else torch.empty(0, extractor.dim, dtype=torch.float64)


def real_features(
    data: LabelledImages,
    extractor: Extractor,
    *,
    cache: Path | None,
    ranks: Ranks = ALONE,
    limit: int = 10_000,
) -> dict[str, Tensor]:
    """Class -> [N, F] float64 of the first `limit` images of each class; on ranks other than the first, nothing.

    Args:
        cache: a folder. Features are kept there under the data's digest, the extractor's, the resizer and the limit,
            so that a change of any of them is a miss. None: nothing is kept.
        ranks: the work is shared among them.

    Raises: UserError when `limit` is below 2 or a cache file cannot be read.
    """
    if limit < 2:
        raise UserError(f"limit counts real images per class and must be at least 2, got {limit}")
    path = None if cache is None else cache / _cache_name(data, extractor, limit)
    found = torch.tensor([int(path is not None and path.exists())], device=ranks.device)
    # The first rank's word: another one may see another disk, or a file that has come since.
    if bool(ranks.gather(found)[0]):
        if path is None or ranks.rank > 0:
            return {}
        # Class names may be anything, so tensors are stored by class index.
        kept = _read(path)
        return {cls: kept[str(label)] for label, cls in enumerate(data.classes)}
    features = {}
    for label, cls in enumerate(data.classes):
        rows_N = torch.nonzero(data.labels == label).flatten()[:limit]

        def compute(first: int, size: int, rows_N: Tensor = rows_N) -> Tensor:
            return extract(_batches(data, rows_N[first : first + size]), extractor, ranks.device)

        features[cls] = sharded(len(rows_N), ranks, compute)
    if ranks.rank > 0:
        return {}
    if path is not None:
        stored = save({str(label): features[cls] for label, cls in enumerate(data.classes)})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: part.write_bytes(stored))
    return features


def intra_class_distance(features_NF: Tensor) -> float:
    """Mean Euclidean distance over all pairs of one class: a diversity figure. fake / real near 0 is a collapse.

    Time and memory grow with N^2: a few hundred samples tell enough.

    Raises: UserError with fewer than 2 samples.
    """
    if len(features_NF) < 2:
        raise UserError(f"diversity needs 2 samples or more, got {len(features_NF)}; add images")
    return float(torch.pdist(features_NF.double()).mean())


def scores_table(labelled: Sequence[tuple[str, Sequence[Score]]]) -> Table:
    """A terminal table: a row per class, a column per metric and label, the protocol beneath.

    Args:
        labelled: [("before", scores), ("after", scores)], or one such pair.

    Raises: UserError when there is nothing to show, or when one metric's scores come from different protocols.
    """
    scores = [score for _, group in labelled for score in group]
    if not scores:
        raise UserError("no scores to show; evaluate first")
    extractors = dict.fromkeys((score.extractor, score.digest, score.resizer) for score in scores)
    of_metrics = {(score.metric, score.extractor, score.digest, score.resizer) for score in scores}
    if len(of_metrics) > len({metric for metric, *_ in of_metrics}):
        named = ", ".join(f"{name} {digest[:8]} {resizer}" for name, digest, resizer in sorted(extractors))
        raise UserError(f"scores of different protocols cannot share a table: {named}; evaluate all with one")
    classes = [cls for cls in dict.fromkeys(score.cls for score in scores) if cls != MEAN]
    lines = [f"extractor {name} {digest[:8]}, resized {resizer}" for name, digest, resizer in extractors]
    table = Table(caption="\n".join(lines))
    # Text, because a class name may hold rich's own [markup].
    table.add_column("class")
    cells = []
    for metric in dict.fromkeys(score.metric for score in scores):
        for label, group in labelled:
            table.add_column(Text(f"{metric} {arrow(metric)}\n{label}"), justify="right")
            cells.append({score.cls: score for score in group if score.metric == metric})
    for count in ("real", "fake"):
        table.add_column(count, justify="right")
    for cls in (*classes, MEAN):
        row = [column.get(cls) for column in cells]
        values = ["" if score is None else f"{score.value:.4g}" for score in row]
        n_real = dict.fromkeys(str(score.n_real) for score in row if score is not None)
        n_fake = dict.fromkeys(str(score.n_fake) for score in row if score is not None)
        style = "bold" if cls == MEAN else None
        table.add_row(Text(cls), *values, " / ".join(n_real), " / ".join(n_fake), style=style)
    return table


def _check_classes(real: Mapping[str, Tensor], fake: Mapping[str, Tensor]) -> None:
    if not real or set(real) != set(fake):
        raise UserError(
            f"real and fake features must cover the same classes, got {sorted(real)} and {sorted(fake)}; "
            "sample every class of the data"
        )
    if MEAN in real:
        raise UserError(f"a class is named '{MEAN}', which is the name of the row of averages; rename the class")
    for side, features in (("real", real), ("fake", fake)):
        for cls, rows in features.items():
            if len(rows) < 2:
                raise UserError(f"class '{cls}' has {len(rows)} {side} samples, a score needs 2 or more; add images")


def _batches(data: LabelledImages, rows_N: Tensor) -> Iterator[Tensor]:
    """[B, 3, H, W] uint8 batches of the images at these places."""
    for chunk in rows_N.split(BATCH):
        if len(chunk):
            yield torch.stack([data[int(i)][0] for i in chunk])


def _cache_name(data: LabelledImages, extractor: Extractor, limit: int) -> str:
    parts = (data.digest, extractor.digest, extractor.resizer, str(limit))
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"features-{extractor.name}-{key[:32]}.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"the feature cache {path} cannot be read ({error}); delete it") from error
