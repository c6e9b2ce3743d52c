"""What `hmgan compare` says: a live line on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich import progress as bars
from rich.console import Console

from hmgan.evaluation.score import MEAN
from hmgan.metrics.measures import shown
from hmgan.report.scores import read_lines
from hmgan.study import cells
from hmgan.study.plan import Cell
from hmgan.units import duration


class StudyProgress:
    """Context manager around a study's cells, of which several may run at once."""

    def __init__(self, wanted: Sequence[Cell], outdir: Path) -> None:
        self.wanted, self.outdir, self.console = wanted, outdir, Console(stderr=True, markup=False)
        self._done = sum(cells.is_scored(cell.folder(outdir), cell) for cell in wanted)
        self._began: dict[str, float] = {}
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        columns = ("{task.description}", bars.BarColumn(24), "{task.fields[said]}", *times)
        self._bar = bars.Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._cells = self._bar.add_task("study", total=len(wanted), completed=self._done, said=self._count())
        self._running: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        if self._done:
            self.say(f"{self._done} of {len(self.wanted)} cells are done already")
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.stop()

    def started(self, cell: Cell) -> None:
        self._began[cell.label] = time.monotonic()
        folder = cell.folder(self.outdir)
        kimg = cells.progress(folder)
        how = f"resumes at kimg {kimg:g}" if kimg else "starts"
        self.say(f"{self._count()}  {cell.label}: {'is scored' if cells.is_done(folder, cell) else how}")
        total = cell.experiment.train.kimg
        self._running[cell.label] = self._bar.add_task(cell.label, total=total, completed=int(kimg), said="")

    def look(self, cell: Cell) -> None:
        """Moves the bar to where the cell's own log is."""
        if self.console.is_terminal:
            kimg = cells.progress(cell.folder(self.outdir))
            said = f"kimg {kimg:g} of {cell.experiment.train.kimg:g}"
            self._bar.update(self._running[cell.label], completed=kimg, said=said)

    def finished(self, cell: Cell) -> None:
        self._done += 1
        lines = read_lines(cell.folder(self.outdir) / cells.TRAIN / "metrics.jsonl")
        means = [line for line in lines if line["class"] == MEAN and line["kimg"] == lines[-1]["kimg"]]
        scores = "  ".join(f"{line['metric']} {shown(line['value'])}" for line in means[:2])
        self._bar.update(self._cells, completed=self._done, said=self._count())
        self.ended(cell, f"done in {duration(time.monotonic() - self._began[cell.label])}  {scores}")

    def ended(self, cell: Cell, how: str) -> None:
        """Takes the cell's bar away and says what became of it."""
        self._bar.remove_task(self._running.pop(cell.label))
        self.say(f"{self._count()}  {cell.label}: {how}")

    def _count(self) -> str:
        return f"{self._done}/{len(self.wanted)}"

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)
