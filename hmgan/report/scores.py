"""Scores before and after a training as tables, and what they mean in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hmgan.errors import UserError
from hmgan.evaluation import collapse
from hmgan.evaluation.score import MEAN, OWN, Score
from hmgan.metrics.measures import arrow, shown
from hmgan.report.document import Column, Section, Table, TableRow

UNDEFINED = "\N{EN DASH}"  # a ratio to zero or to a negative estimate
DIGEST = 12  # characters of a hash that are shown


def recorded_scores(folder: Path) -> tuple[list[Score], list[Score]]:
    """The first and the last scores in metrics.jsonl, as `before` and `after`; empty where there are none."""
    lines = read_lines(folder / "metrics.jsonl")
    kimgs = sorted({line["kimg"] for line in lines})
    if len(kimgs) < 2:
        return [], []
    first, last = ([Score.of_line(line) for line in lines if line["kimg"] == kimg] for kimg in (kimgs[0], kimgs[-1]))
    return first, last


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSONL file; nothing where there is no file. Raises UserError for a line that is no JSON."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path} has a line that is no JSON ({error}); remove the line") from None


def pairs(before: Sequence[Score], after: Sequence[Score]) -> list[tuple[Score, Score]]:
    """Scores of one metric and class, in the order of `before`.

    Raises: UserError if they are not of one protocol, or not of the same classes on both sides.
    """
    protocols = {(s.extractor, s.digest, s.resizer) for s in (*before, *after)}
    if len(protocols) > len({s.extractor for s in (*before, *after)}):
        named = ", ".join(sorted(f"{name} {digest[:DIGEST]} {resizer}" for name, digest, resizer in protocols))
        raise UserError(f"scores before and after must be of one protocol, got {named}; evaluate both with one")
    first, last = ({(score.metric, score.cls): score for score in scores} for scores in (before, after))
    if first.keys() != last.keys():
        missing = ", ".join(f"{metric} of {cls}" for metric, cls in sorted(first.keys() ^ last.keys()))
        raise UserError(f"scores before and after must cover the same classes, one side lacks {missing}; evaluate both")
    return [(score, last[key]) for key, score in first.items()]


def number_format(values: Sequence[float]) -> Callable[[float], str]:
    """One number of decimals for all: four digits of the largest, two of the smallest, six decimals at most."""
    sizes = [math.floor(math.log10(abs(value))) for value in values if value and math.isfinite(value)]
    decimals = min(6, max(0, 3 - max(sizes), 1 - min(sizes))) if sizes else 0
    return lambda value: f"{value:,.{decimals}f}"


def scores_section(joined: Sequence[tuple[Score, Score]], kimg: float) -> Section:
    """A table per metric of (before, after), and the protocol beneath; empty without scores."""
    if not joined:
        return Section("Scores")
    networks = dict.fromkeys(extractor_note(score) for score, _ in joined)
    note = (
        f"{'. '.join(networks)}. Ratio is after / before. Real and fake are numbers of images. "
        "The mean weighs classes equally; its numbers of images are totals."
    )
    metrics = dict.fromkeys(score.metric for score, _ in joined)
    return Section(
        "Scores",
        text=[
            f"Before is kimg 0, after is kimg {kimg:g}. {arrow('FD')} marks scores where lower is better, "
            f"{arrow('recall')} where higher is."
        ],
        tables=[_table(metric, [pair for pair in joined if pair[0].metric == metric]) for metric in metrics],
        notes=[note],
    )


def beside_section(rows: Mapping[str, Sequence[Score]], after: Sequence[Score]) -> Section:
    """The means of the scores beside those of real images, of photographs repeated, and of the source."""
    title = "What the scores stand beside"
    own = {score.metric: score for score in after if score.cls == MEAN}
    means = {name: {s.metric: s for s in scores if s.cls == MEAN} for name, scores in rows.items()}
    metrics = [metric for metric in own if any(metric in each for each in means.values())]
    if not metrics:
        return Section(title)
    lines = []
    for name, each in (*means.items(), (OWN, own)):
        values = (shown(each[metric].value) if metric in each else UNDEFINED for metric in metrics)
        lines.append(TableRow((name, *values), strong=each is own))
    columns = (Column("images", False), *(Column(f"{metric} {arrow(metric)}") for metric in metrics))
    text = (
        "Means over the classes, at the same number of images. Other real images are the floor; one and three "
        "photographs are the most central of those, repeated: a distance near theirs is that of a generator that draws "
        "one image per class, and spread, the diversity as a share of the real images', says whether it does. The "
        "source is the same for every class.",
    )
    return Section(title, text=text, tables=[Table("Means over the classes", columns, lines, wide=True)])


def collapse_section(after: Sequence[Score], least: float) -> Section:
    """The classes that may have collapsed; empty where none has."""
    found = collapse.collapsed(after, least)
    return Section("Diversity", text=[f"Warning: {text}." for text in collapse.warnings(found, least)])


def extractor_note(score: Score) -> str:
    """The network that a score is by, and what it was shown."""
    return (
        f"Extractor {score.extractor}, sha256 of its weights {score.digest[:DIGEST]}\N{HORIZONTAL ELLIPSIS}, "
        f"images resized by {score.resizer}"
    )


def meaning_section(extractor: str | None) -> Section:
    """What an extractor's scores are, and that they are not FID; empty without one."""
    title = "What the scores are, and are not"
    if extractor is None:
        return Section(title)
    space = "a small SqueezeNet" if extractor == "squeezenet" else f"the network {extractor}"
    text = (
        f"FD-{extractor} is the Fr\u00e9chet distance between real and generated images in the feature space of "
        f"{space}. KD-{extractor} is the kernel distance (squared MMD, cubic kernel) in the same space; "
        "its estimate is unbiased and may fall slightly below zero.",
        "They are not FID and KID: those use an Inception network, and their values in papers cannot be set beside "
        "these. A score here can be compared only with scores of the same extractor, resizer, real images and "
        "numbers of images.",
    )
    return Section(title, text=text)


def _table(metric: str, joined: Sequence[tuple[Score, Score]]) -> Table:
    show = number_format([score.value for pair in joined for score in pair])
    rows = []
    for a, b in sorted(joined, key=lambda pair: pair[0].cls == MEAN):  # the mean last
        ratio = f"{b.value / a.value:.2f}" if a.value > 0 and b.value >= 0 else UNDEFINED
        counts = [(a.n_real, b.n_real), (a.n_fake, b.n_fake)]
        images = [" / ".join(f"{count:,}" for count in dict.fromkeys(both)) for both in counts]
        rows.append(TableRow((a.cls, show(a.value), show(b.value), ratio, *images), strong=a.cls == MEAN))
    numbers = (Column(name) for name in ("before", "after", "ratio", "real", "fake"))
    return Table(f"{metric} {arrow(metric)}", (Column("class", False), *numbers), rows)
