"""Scores in the terminal: a row per class and their mean, with the protocol that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmgan.errors import UserError, one_line
from hmgan.evaluation.score import MEAN, Score
from hmgan.metrics.measures import arrow, shown

BESIDE = 36  # characters of a terminal's width that a table's other columns and lines take


def print_tables(labelled: Sequence[tuple[str, Sequence[Score]]], console: Console) -> None:
    """The scores in as many tables as it takes to show every metric's name whole."""
    # With its arrow, a space and the column's frame.
    widths = {score.metric: len(labelled) * (len(score.metric) + 5) for _, scores in labelled for score in scores}
    if len(labelled) > 1 and max(widths.values(), default=0) > console.width - BESIDE:
        for one in labelled:
            print_tables([one], console)
        return
    groups: list[list[str]] = []
    room = 0
    for metric, width in widths.items():
        if width > room:
            groups.append([])
            room = console.width - BESIDE
        groups[-1].append(metric)
        room -= width
    for group in groups:
        of_group = [(label, [score for score in scores if score.metric in group]) for label, scores in labelled]
        console.print(scores_table(of_group))


def scores_table(labelled: Sequence[tuple[str, Sequence[Score]]]) -> Table:
    """A terminal table: a row per class, a column per metric and label, the protocol beneath.

    Args:
        labelled: [("before", scores), ("after", scores)], or one such pair.

    Raises: UserError when there is nothing to show, or when one metric's scores come from different protocols.
    """
    scores = [score for _, group in labelled for score in group]
    if not scores:
        raise UserError("no scores to show; evaluate first")
    table = Table(caption=_protocol(scores))
    table.add_column("class", overflow="fold")
    columns = []
    for metric in dict.fromkeys(score.metric for score in scores):
        for label, group in labelled:
            columns.append({score.cls: score for score in group if score.metric == metric})
            # Text, because names may hold rich's own [markup].
            table.add_column(
                Text(f"{metric} {arrow(metric)}\n{label}"), justify="right", no_wrap=True, min_width=len(metric) + 2
            )
    table.add_column("real", justify="right", no_wrap=True)
    table.add_column("fake", justify="right", no_wrap=True)
    classes = dict.fromkeys(score.cls for score in scores if score.cls != MEAN)
    for cls in (*classes, MEAN):
        table.add_row(Text(one_line(cls)), *_cells(cls, columns), style="bold" if cls == MEAN else None)
    return table


def references_table(rows: Mapping[str, Sequence[Score]]) -> Table:
    """The means over the classes, a row per metric and a column per generator and reference, within 80 characters."""
    means = {name: {s.metric: s.value for s in scores if s.cls == MEAN} for name, scores in rows.items()}
    first, *others = means.values()
    table = Table(caption="what the scores stand beside; means over the classes")
    table.add_column("metric", no_wrap=True)
    for name in means:
        table.add_column(name.replace("photograph", "photo"), justify="right")
    for metric in first:
        if any(metric in other for other in others):
            values = (shown(own[metric]) if metric in own else "" for own in means.values())
            table.add_row(Text(f"{metric} {arrow(metric)}"), *values)
    return table


def interval_text(score: Score) -> str:
    """A value, with its interval where it has one."""
    value = shown(score.value)
    return value if score.low is None or score.high is None else f"{value} [{score.low:.2g}, {score.high:.2g}]"


def _protocol(scores: Sequence[Score]) -> str:
    """A line per extractor. Raises UserError where one metric has several."""
    extractors = dict.fromkeys((score.extractor, score.digest, score.resizer) for score in scores)
    of_metrics = {(score.metric, score.extractor, score.digest, score.resizer) for score in scores}
    if len(of_metrics) > len({metric for metric, *_ in of_metrics}):
        named = ", ".join(f"{name} {digest[:8]} {resizer}" for name, digest, resizer in sorted(extractors))
        raise UserError(f"scores of different protocols cannot share a table: {named}; evaluate all with one")
    return "\n".join(f"extractor {name} {digest[:8]}, resized {resizer}" for name, digest, resizer in extractors)


def _cells(cls: str, columns: Sequence[Mapping[str, Score]]) -> list[str]:
    """A class's values, empty where there is none, and the counts of images that they are from."""
    values = [interval_text(column[cls]) if cls in column else "" for column in columns]
    found = [column[cls] for column in columns if cls in column]
    real = dict.fromkeys(str(score.n_real) for score in found)
    fake = dict.fromkeys(str(score.n_fake) for score in found)
    return [*values, " / ".join(real), " / ".join(fake)]
