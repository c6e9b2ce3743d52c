"""What a run says: a live bar or plain lines, log.txt, stats.jsonl and trackers. Rank 0 only."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from hmgan.errors import one_line, some_of
from hmgan.units import duration

SHORT = {
    "loss/G": "G",
    "loss/D": "D",
    "loss/r1": "r1",
    "loss/contrastive": "contr",
    "loss/align": "align",
    "loss/image": "image",
    "loss/emd": "emd",
    "augment/p": "p",
    "nonfinite/skipped": "skipped",
}
BAR = 10  # characters: at 80 columns the losses of G and D are still beside it
FIRST = 5.0  # seconds of training without a status line, at most, but for those of a single step


class RunLog:
    """Context manager around the training loop. Does nothing off rank 0."""

    def __init__(self, folder: Path | None, total_kimg: float, console: Console | None = None) -> None:
        self.folder = folder
        self.console = console or Console(stderr=True, quiet=folder is None, markup=False)
        self._live = self.console.is_terminal and folder is not None
        # Of a narrow terminal the status line gives way, not what is left of it.
        columns = (
            BarColumn(BAR, table_column=Column(min_width=BAR, no_wrap=True)),
            TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
            TimeRemainingColumn(table_column=Column(min_width=7, no_wrap=True)),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
        )
        self._bar = Progress(*columns, console=self.console, expand=True, disable=not self._live)
        self._task = self._bar.add_task("starting", total=total_kimg)
        self.collapsed: tuple[str, ...] = ()  # classes of the last snapshot
        self._began = time.monotonic()
        self._last = (self._began, 0.0)
        self._quiet = True  # no status yet

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.stop()

    def start(self, kimg: float) -> None:
        """Where the run starts or resumes."""
        self._last = (time.monotonic(), kimg)
        self._bar.update(self._task, completed=kimg)

    def advance(self, kimg: float) -> None:
        """A step is done. Where the first status is far, one that says no more than how fast it goes."""
        self._bar.update(self._task, completed=kimg)
        now, (began, start) = time.monotonic(), self._last
        if self._quiet and now - began > FIRST:
            self._quiet = False
            pace = f"sec/kimg {(now - began) / (kimg - start):.2f}"
            self._show(kimg, f"kimg {kimg:<8.3f} time {duration(now - self._began):<10}  {pace}")

    def say(self, text: str) -> None:
        """A line on the terminal and in log.txt."""
        text = one_line(text)
        if self.folder is not None:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._append("log.txt", text)

    def tick(
        self, kimg: float, stats: Mapping[str, float], speed: Callable[[float], Mapping[str, float]] = lambda _: {}
    ) -> dict[str, Any]:
        """One status line, and one line of stats.jsonl.

        Args:
            speed: operations per second, by name, of seconds per kimg.
        """
        now = time.monotonic()
        then, kimg_then = self._last
        per_kimg = (now - then) / max(kimg - kimg_then, 1e-9)
        self._last = (now, kimg)
        gpu = torch.cuda.is_available()
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else process  # GiB
        line = {"kimg": kimg, "seconds": now - self._began, "sec_per_kimg": per_kimg, "mem_gib": peak}
        line |= {**speed(per_kimg), **stats}
        shown = "  ".join(f"{short} {stats[name]:.3f}" for name, short in SHORT.items() if name in stats)
        text = (
            f"kimg {kimg:<8.1f} time {duration(now - self._began):<10}  sec/kimg {per_kimg:<7.2f} "
            f"{'gpumem' if gpu else 'mem'} {peak:.2f}  {shown}"
        )
        if gpu:  # where a core's figure says little, 80 columns are for the losses
            text += operations(line)
        if self.collapsed:
            text += f"  collapsed: {some_of(self.collapsed, 3)}"
        self._quiet = False
        self._show(kimg, text)
        self._append("stats.jsonl", json.dumps(line))
        return line

    def _show(self, kimg: float, text: str) -> None:
        if self._live:
            # The one line here is aligned with nothing.
            self._bar.update(self._task, completed=kimg, description=" ".join(text.split()))
            self._append("log.txt", text)
        else:
            self.say(text)

    def score(self, line: Mapping[str, Any]) -> None:
        self._append("metrics.jsonl", json.dumps(line))

    def _append(self, name: str, text: str) -> None:
        if self.folder is not None:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(text + "\n")


def operations(line: Mapping[str, float]) -> str:
    """`  TFLOP/s 312 (32% of peak)`, where they are counted."""
    share = f" ({line['peak_share']:.0%} of peak)" if "peak_share" in line else ""
    return f"  TFLOP/s {line['tflops']:.3g}{share}" if "tflops" in line else ""


def warn(text: str) -> None:
    """A warning where there is no log."""
    print(f"warning: {one_line(text)}", file=sys.stderr)
