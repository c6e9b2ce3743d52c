"""Scores before and after a training as tables, and what they mean in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hmgan.errors import UserError
from hmgan.evaluation.score import MEAN, Score
from hmgan.report.document import Column, Row, Section, Table

ARROW = "\N{DOWNWARDS ARROW}"
UNDEFINED = "\N{EN DASH}"  # a ratio to zero or to a negative estimate
DIGEST = 12  # characters of a hash that are shown


def recorded_scores(folder: Path) -> tuple[list[Score], list[Score]]:
    """The first and the last scores in metrics.jsonl, as `before` and `after`; empty where there are none."""
    lines = read_lines(folder / "metrics.jsonl")
    places = sorted({line["kimg"] for line in lines})
    if len(places) < 2:
        return [], []

    def at(kimg: float) -> list[Score]:
        return [Score.of_line(line) for line in lines if line["kimg"] == kimg]

    return at(places[0]), at(places[-1])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSONL file; nothing where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def check_comparable(before: Sequence[Score], after: Sequence[Score]) -> None:
    """One protocol, and the same rows on both sides."""
    protocols = {(s.extractor, s.digest, s.resizer) for s in (*before, *after)}
    if len(protocols) > 1:
        named = ", ".join(sorted(f"{name} {digest[:DIGEST]} {resizer}" for name, digest, resizer in protocols))
        raise UserError(f"scores before and after must be of one protocol, got {named}; evaluate both with one")
    rows_before, rows_after = ({(s.metric, s.cls) for s in scores} for scores in (before, after))
    if rows_before != rows_after:
        missing = ", ".join(f"{metric} of {cls}" for metric, cls in sorted(rows_before ^ rows_after))
        raise UserError(f"scores before and after must cover the same classes, one side lacks {missing}; evaluate both")


def pairs(before: Sequence[Score], after: Sequence[Score]) -> list[tuple[Score, Score]]:
    """Rows that belong together, in the order of `before`."""
    later = {(score.metric, score.cls): score for score in after}
    return [(score, later[score.metric, score.cls]) for score in before]


def number_format(values: Sequence[float]) -> Callable[[float], str]:
    """One number of decimals for all: four digits of the largest, two of the smallest, six decimals at most."""
    sizes = [math.floor(math.log10(abs(value))) for value in values if value and math.isfinite(value)]
    decimals = min(6, max(0, 3 - max(sizes), 1 - min(sizes))) if sizes else 0
    return lambda value: f"{value:,.{decimals}f}"


def scores_section(before: Sequence[Score], after: Sequence[Score], kimg: float) -> Section:
    """A table per metric, and the protocol beneath; empty without scores."""
    if not before:
        return Section("Scores")
    joined = pairs(before, after)
    metrics = dict.fromkeys(score.metric for score in before)
    one = before[0]
    note = (
        f"Extractor {one.extractor}, sha256 of its weights {one.digest[:DIGEST]}\N{HORIZONTAL ELLIPSIS}, "
        f"images resized by {one.resizer}. Ratio is after / before. Real and fake are numbers of images. "
        "The mean weighs classes equally; its numbers of images are totals."
    )
    return Section(
        "Scores",
        text=(f"Before is kimg 0, after is kimg {kimg:g}. {ARROW} marks scores where lower is better.",),
        tables=tuple(_table(metric, [pair for pair in joined if pair[0].metric == metric]) for metric in metrics),
        notes=(note,),
    )


def meaning_section(scores: Sequence[Score]) -> Section:
    """What these scores are, and that they are not FID; empty without scores."""
    title = "What the scores are, and are not"
    if not scores:
        return Section(title)
    name = scores[0].extractor
    space = "a small SqueezeNet" if name == "squeezenet" else f"the network {name}"
    text = (
        f"FD-{name} is the Fr\u00e9chet distance between real and generated images in the feature space of {space}. "
        f"KD-{name} is the kernel distance (squared MMD, cubic kernel) in the same space; "
        "its estimate is unbiased and may fall slightly below zero.",
        "They are not FID and KID: those use an Inception network, and their values in papers cannot be set beside "
        "these. A score here can be compared only with scores of the same extractor, resizer, real images and "
        "numbers of images.",
    )
    return Section(title, text=text)


def _table(metric: str, joined: Sequence[tuple[Score, Score]]) -> Table:
    show = number_format([score.value for pair in joined for score in pair])
    rows = tuple(
        Row(
            (
                a.cls,
                show(a.value),
                show(b.value),
                f"{b.value / a.value:.2f}" if a.value > 0 and b.value >= 0 else UNDEFINED,
                " / ".join(dict.fromkeys((f"{a.n_real:,}", f"{b.n_real:,}"))),
                " / ".join(dict.fromkeys((f"{a.n_fake:,}", f"{b.n_fake:,}"))),
            ),
            strong=a.cls == MEAN,
        )
        for a, b in sorted(joined, key=lambda pair: pair[0].cls == MEAN)
    )
    numbers = ("before", "after", "ratio", "real", "fake")
    return Table(f"{metric} {ARROW}", (Column("class", False), *(Column(name) for name in numbers)), rows)
