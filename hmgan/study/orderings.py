"""The orderings that a study checks: by distance, recall and class-kept together, and what would decide the rest."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from hmgan.report.document import Column, Section, Table, TableRow
from hmgan.study import scores, tables
from hmgan.study.schema import Study
from hmgan.study.scores import Result
from hmgan.study.statistics import pooled, seeds_to_exclude, seeds_to_find

RULE = (
    "An ordering is the difference of two rows' means over seeds, under one variance that is pooled over all rows of "
    "the target. It holds if its 95% interval (in brackets, as a share of the worse row's mean; above zero is better) "
    "lies above zero, and is reversed if it lies below. Otherwise two one-sided tests at 5% say how large a difference "
    "is excluded. Each interval is for its ordering alone; it is not widened for their number."
)
TOGETHER = (
    "No verdict is by one score alone: a Fr\u00e9chet distance of few images rewards one good image per class, recall "
    "sees what is left out, and class-kept sees a generator that ignores its class. Read the columns together."
)
BASES = ("FD", "FID", "recall-k5", "class-kept")  # what a verdict stands on
DIFFERENCES = (0.05, 0.1, 0.2)  # whose cost in seeds is told


def section(study: Study, found: Sequence[Result]) -> Section:
    """Every claim on every target."""
    title, metrics = "Orderings of the paper", verdict_metrics(scores.metrics(found))
    if not study.claims or not metrics:
        return Section(title)
    given, notes = [], ["The figures behind each verdict are with the target's scores below."]
    for target in (target.name for target in study.targets):
        columns = [Column(name, False) for name in ("ordering", "the paper", *metrics)]
        values = {metric: tables.by_row(study, found, target, metric) for metric in metrics}
        lines = []
        for claim in study.claims:
            verdicts = (tables.verdict(values[metric], claim, metric) for metric in metrics)
            lines.append(TableRow((claim.name, claim.paper, *verdicts)))
        given.append(Table(f"{target}: by the means of the classes", columns, lines, wide=True))
        notes += [line for metric in metrics if (line := power(values[metric], target, metric))]
    return Section(title, [RULE, TOGETHER], given, notes)


def verdict_metrics(metrics: Sequence[str]) -> list[str]:
    """Those that a verdict stands on, by every extractor; the first metric where a study scores none of them."""
    chosen = [m for m in metrics if m.startswith(tuple(f"{b}-" for b in BASES)) and "class-kept-reals" not in m]
    return chosen or list(metrics[:1])


def power(values: tables.ByRow, target: str, metric: str) -> str:
    """What it takes to decide: seeds per row, by the difference; nothing where no row has two seeds."""
    rows = [list(own.values()) for own in values.values()]
    spread, all_rows = pooled(rows), [value for own in rows for value in own]
    mean = abs(fmean(all_rows)) if all_rows else 0.0
    if not spread.freedom or not mean:
        return ""
    share = spread.deviation / mean
    needs = (
        f"{100 * d:.0f}%, {tables.seed_text(seeds_to_find(d, share))} to find and "
        f"{tables.seed_text(seeds_to_exclude(d, share))} to exclude"
        for d in DIFFERENCES
    )
    return (
        f"{target}, {metric}: seeds of one row deviate by {100 * share:.1f}% of the mean ({spread.freedom} degrees of "
        f"freedom). Seeds per row for 80% power: {'; '.join(needs)}."
    )
