"""Scores per class and their mean, with the protocol that made them. B batch, N/M samples, F features, H/W pixels."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hmgan.errors import UserError
from hmgan.evaluation.score import MEAN, Score
from hmgan.metrics.measures import arrow


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
