"""What bench_step.py prints: a line per measure, a column per variant, and what is wanted of one ratio."""

from __future__ import annotations

from typing import NamedTuple

from bench_step_variants import ORDER, OURS, PER_SAMPLE, RELEASED, SOURCE_ONLY
from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One line of the table: a measure of every variant, and what is wanted of one ratio."""

    measure: str
    unit: str
    values: dict[str, float]
    limit: str  # the variant that ours is compared with
    wanted: float | None


def show(rows: list[Row], console: Console) -> None:
    names = [v for v in ORDER if any(v in row.values for row in rows)]
    table = Table(
        title="Medians of alternating turns; ratios are ours against the variant named", box=None, title_justify="left"
    )
    for column in ("measure", *names, "(a) ratio", "ours", "wanted"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for row in rows:
        cells = [
            f"{row.values[v]:.{3 if row.unit == 's' else 1}f} {row.unit}" if v in row.values else "-" for v in names
        ]
        table.add_row(row.measure, *cells, *_ratios(row))
    console.print(table)


def _ratios(row: Row) -> tuple[str, str, str]:
    against = row.limit[:3]
    if row.wanted is None:
        return "-", f"{row.values[OURS] / row.values[row.limit]:.2f} of {against}", "-"
    if row.limit not in row.values:
        return "-", "-", f"{row.wanted} of {against}"
    ratio = row.values[OURS] / row.values[row.limit]
    first = PER_SAMPLE if PER_SAMPLE in row.values else RELEASED
    other = SOURCE_ONLY if row.limit == first else first
    beside = f"{other[:3]} {row.values[other] / row.values[row.limit]:.2f}" if other in row.values else "-"
    met = ratio <= row.wanted
    return beside, f"[{'green' if met else 'red'}]{ratio:.2f} of {against}[/]", f"{row.wanted} of {against}"
