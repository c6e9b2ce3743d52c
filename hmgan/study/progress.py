"""What `hmgan compare` says: a live line on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich import progress as bars
from rich.console import Console

from hmgan.evaluation.score import MEAN
from hmgan.report.scores import read_lines
from hmgan.study import cells
from hmgan.study.plan import Cell
from hmgan.units import duration


class Progress:
    """Context manager around a study's cells, of which several may run at once."""

    def __init__(self, wanted: Sequence[Cell], outdir: Path, console: Console | None = None) -> None:
        self.outdir = outdir
        self.console = console or Console(stderr=True)
        self._total = len(wanted)
        self._done = sum(cells.is_scored(cell.folder(outdir), cell) for cell in wanted)
        self._began: dict[str, float] = {}
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(24),
            bars.TextColumn("{task.fields[said]}"),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
        )
        self._bar = bars.Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._cells = self._bar.add_task("study", total=self._total, completed=self._done, said=self._count())
        self._running: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        if self._done:
            self.say(f"{self._done} of {self._total} cells are done already")
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.stop()

    def started(self, cell: Cell) -> None:
        self._began[cell.label] = time.monotonic()
        kimg = cells.progress(cell.folder(self.outdir))
        self.say(f"{self._count()}  {cell.label}: " + (f"goes on at kimg {kimg:g}" if kimg else "starts"))
        total = cell.experiment.train.kimg
        self._running[cell.label] = self._bar.add_task(cell.label, total=total, completed=int(kimg), said="")

    def look(self, cell: Cell) -> None:
        """Moves the bar to where the cell's own log is."""
        if self.console.is_terminal:
            kimg = cells.progress(cell.folder(self.outdir))
            self._bar.update(
                self._running[cell.label], completed=kimg, said=f"kimg {kimg:g} of {cell.experiment.train.kimg:g}"
            )

    def finished(self, cell: Cell) -> None:
        self._done += 1
        lines = read_lines(cell.folder(self.outdir) / cells.TRAIN / "metrics.jsonl")
        means = [line for line in lines if line["class"] == MEAN and line["kimg"] == lines[-1]["kimg"]]
        scores = "  ".join(f"{line['metric']} {line['value']:.4g}" for line in means[:2])
        took = duration(time.monotonic() - self._began[cell.label])
        self.say(f"{self._count()}  {cell.label}: done in {took}  {scores}")
        self._bar.update(self._cells, completed=self._done, said=self._count())
        self._over(cell)

    def failed(self, cell: Cell, reason: str) -> None:
        self._over(cell)
        self.say(f"{self._count()}  {cell.label}: failed: {reason}")

    def stopped(self, cell: Cell) -> None:
        """The time is up."""
        self._over(cell)
        self.say(f"{self._count()}  {cell.label}: stopped at kimg {cells.progress(cell.folder(self.outdir)):g}")

    def lost(self, cell: Cell) -> None:
        self._over(cell)
        self.say(f"{self._count()}  {cell.label}: taken over by another process while this one was suspended")

    def left_to_others(self, rest: Sequence[Cell]) -> None:
        """Says which cells other processes run."""
        held = [cell.label for cell in rest if not cells.is_scored(cell.folder(self.outdir), cell)]
        if held:
            self.say(f"{len(held)} cells are being run by other processes: {', '.join(held)}")

    def _over(self, cell: Cell) -> None:
        """Its bar goes."""
        self._bar.remove_task(self._running.pop(cell.label))

    def _count(self) -> str:
        return f"{self._done}/{self._total}"

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
