"""The doctor's page in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hmgan.doctor.probe import ProbeResult

WIDTH = 100
MANY, SIDE_BY_SIDE = 6, 3  # more rows than this share lines


def show(title: str, sections: Sequence[ProbeResult], console: Console | None = None) -> None:
    """What was found, section by section, and the verdict last, where the eye is."""
    console = console or Console(highlight=False, markup=False)
    console.width = min(console.width, WIDTH)
    console.print(Text(title, "bold"))
    for section in sections:
        verdict = Text(" needs you", "bold red") if section.problems else Text(" ok", "green")
        console.print(Rule(Text(section.title, "bold").append(verdict), align="left", style="dim"))
        if section.rows:
            console.print(lines(section.rows))
        for problem in section.problems:
            console.print(Text(f"! {problem}", "red"))
    console.print(Rule(style="dim"))
    count = sum(len(section.problems) for section in sections)
    bad = f"not healthy: {count} problem{'s' if count > 1 else ''}, marked with ! above"
    console.print(Text(bad, "bold red") if count else Text("healthy", "bold green"))


def lines(rows: Sequence[tuple[str, str]]) -> Table:
    """One pair a line; where there are many, as of versions, three."""
    columns = SIDE_BY_SIDE if len(rows) > MANY else 1
    table = Table.grid(padding=(0, 2))
    for _ in range(columns):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
    for first in range(0, len(rows), columns):
        table.add_row(*(Text(part) for row in rows[first : first + columns] for part in row))
    return table
