"""What scores are set beside: other real images, one and three of them repeated, and the source as it is.

A distance of a hundred fakes may be that of one good photograph repeated: these rows say. N samples, F features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmgan.data.images import Images
from hmgan.evaluation.counts import fewest
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.generator_scores import Space, classes_kept
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.score import Score, class_scores
from hmgan.files import sha256_of, write_atomically
from hmgan.generators.source import GENERATOR, load_source, source_folder
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.layers.float32 import products
from hmgan.metrics.measures import FEATURE_MEASURES
from hmgan.types import UNLABELLED

OTHERS, ONE, THREE, SOURCE = "other real images", "one photograph", "three photographs", "the source"
LINES = "references.jsonl"  # beside a run's metrics.jsonl

References = dict[str, list[Score]]  # row -> its scores


@products(tf32=False)
def references(judge: Judge, others: Images | None, source: str | None, per_class: int, seed: int) -> References:
    """The rows that a judge's scores of `per_class` fakes stand beside; on ranks other than the first, nothing.

    Kept beside the features of the reals, by all that they depend on. Made and called on every rank.

    Args:
        others: real images of the same classes; where they are those that scores are against, every second one is
            compared with the rest. None leaves the rows of photographs out.
        source: the name or folder of an unconditional generator; None, or one of another size, leaves its row out.
        seed: of the source's images.
    """
    measures = [name for name in judge.metrics if name in FEATURE_MEASURES]
    if not measures:
        return {}
    networks = [[network.digest, network.resizer] for network in judge.extractors]
    digests = [judge.data, others and others.digest, source and sha256_of(source_folder(source) / GENERATOR)]
    key = hashlib.sha256(json.dumps([networks, digests, judge.metrics, per_class, seed]).encode()).hexdigest()
    path = None if judge.cache is None else judge.cache / f"references-{key[:32]}.jsonl"
    found = torch.tensor([int(path is not None and path.is_file())], device=judge.ranks.device)
    # The first rank decides, as for the features.
    if bool(judge.ranks.gather(found)[0]):
        return {} if path is None or judge.ranks.rank > 0 else read(path)
    sets = [_photographs(judge, i, others, per_class) for i in range(len(judge.extractors))]
    if source is not None and (drawn := _of_source(judge, source, per_class, seed)):
        for own, rows_NF in zip(sets, drawn, strict=True):
            own[SOURCE] = dict.fromkeys(judge.reals.classes, rows_NF)
    if judge.ranks.rank > 0:
        return {}
    rows: References = {}
    with judge.ranks.alone():
        for network, reals, own in zip(judge.extractors, judge.real_features, sets, strict=True):
            for name, fakes in own.items():
                halves = name == OTHERS and others is not None and others.digest == judge.data
                against = {cls: rows_NF[::2] for cls, rows_NF in reals.items()} if halves else reals
                rows.setdefault(name, []).extend(_scores(judge, Space(network, against, fakes), measures))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(rows, path)
    return rows


def repeated(rows_NF: Tensor, photographs: int, count: int) -> Tensor:
    """[count, F]: those nearest to the mean of the features, one after the other, again and again."""
    order_N = (rows_NF - rows_NF.mean(dim=0)).square().sum(dim=1).argsort(stable=True)
    return rows_NF[order_N[torch.arange(count) % min(photographs, len(order_N))]]


def read(path: Path) -> References:
    """The rows of a file, a row's first score of a metric and class; nothing where there is no file."""
    rows: dict[str, dict[tuple[str, str], Score]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        line: dict[str, Any] = json.loads(text)
        score = Score.of_line(line)
        rows.setdefault(line["reference"], {}).setdefault((score.metric, score.cls), score)
    return {name: list(scores.values()) for name, scores in rows.items()}


def write(rows: Mapping[str, Sequence[Score]], path: Path) -> None:
    """One score a line, all or nothing."""
    write_atomically(path, lambda part: part.write_text(text_of(rows), encoding="utf-8"))


def text_of(rows: Mapping[str, Sequence[Score]]) -> str:
    """One score a line."""
    lines = (json.dumps({"reference": name, **score.line()}) for name, scores in rows.items() for score in scores)
    return "".join(f"{line}\n" for line in lines)


def _photographs(judge: Judge, network: int, others: Images | None, count: int) -> dict[str, dict[str, Tensor]]:
    """Row -> class -> features, of the rows that need no generator."""
    if others is None or others.classes != judge.reals.classes:
        return {}
    if others.digest == judge.data:
        features = {cls: rows_NF[1::2][:count] for cls, rows_NF in judge.real_features[network].items()}
    else:
        features = judge.features_of(others, judge.extractors[network], limit=count)
    rows = {OTHERS: features}
    rows[ONE] = {cls: repeated(rows_NF, 1, count) for cls, rows_NF in features.items()}
    rows[THREE] = {cls: repeated(rows_NF, 3, count) for cls, rows_NF in features.items()}
    least = fewest(judge.metrics)
    return {name: own for name, own in rows.items() if all(len(rows_NF) >= least for rows_NF in own.values())}


def _of_source(judge: Judge, source: str, per_class: int, seed: int) -> list[Tensor]:
    """Each network's features of the source's images; nothing where they have another size than the reals."""
    with torch.random.fork_rng(devices=[]):  # a network that is built draws weights, before it reads its own
        generator = UnconditionalGenerator(load_source(source).backbone).eval().to(judge.ranks.device)
    if generator.resolution != judge.reals.resolution:
        return []
    return judge.drawn(Fakes(generator, (UNLABELLED,), per_class, seed), 0)


def _scores(judge: Judge, space: Space, measures: Sequence[str]) -> list[Score]:
    scores = class_scores(space.reals, space.fakes, space.extractor, measures)
    if "leakage" in judge.metrics:
        scores += [score for score in classes_kept(space) if not score.metric.startswith("class-kept-reals")]
    return scores
