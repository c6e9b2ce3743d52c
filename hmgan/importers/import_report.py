"""What became of every tensor of an imported checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Match(NamedTuple):
    """A tensor of theirs that became one of ours."""

    network: str
    ours: str
    theirs: str
    shape: tuple[int, ...]
    note: str


class LeftOut(NamedTuple):
    """A tensor of theirs that is not used."""

    network: str
    theirs: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor of a checkpoint."""

    title: str
    notes: tuple[str, ...]
    matched: tuple[Match, ...]
    new: tuple[str, ...]  # ours without a counterpart; none may be left, or the import is refused
    left_out: tuple[LeftOut, ...]

    def text(self) -> str:
        """Every tensor on a line of its own."""
        lines = [self.title, *(f"note: {note}" for note in self.notes), ""]
        lines += [f"matched (theirs -> ours): {len(self.matched)}"]
        for m in self.matched:
            lines.append(f"  {m.theirs} -> {m.network} {m.ours} {list(m.shape)}" + (f" ({m.note})" if m.note else ""))
        lines += ["", f"new (ours, nothing of theirs): {len(self.new)}", *(f"  {name}" for name in self.new)]
        lines += ["", f"left out (theirs, unused): {len(self.left_out)}"]
        lines += [f"  {entry.theirs}: {entry.reason}" for entry in self.left_out]
        return "\n".join(lines) + "\n"

    def table(self) -> Table:
        """Counts per network."""
        table = Table("network", "matched", "new", "left out")
        matched, left_out = (Counter(entry.network for entry in entries) for entries in (self.matched, self.left_out))
        new = Counter(name.split()[0] for name in self.new)
        for network in dict.fromkeys((*matched, *new, *left_out)):
            table.add_row(network, str(matched[network]), str(new[network]), str(left_out[network]))
        return table


def show(report: ImportReport) -> None:
    """Prints the counts and the notes."""
    console = Console(markup=False, highlight=False)
    console.print(report.title, soft_wrap=True)
    console.print(report.table())
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
