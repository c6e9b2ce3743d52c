"""What a section of bench_gpu.py is given, and what it hands back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Measure(NamedTuple):
    """One line of the table. What was expected is a prediction, or an older measurement, and is printed beside it."""

    case: str
    value: float
    unit: str
    expected: float | None = None
    more: dict[str, Any] = {}  # noqa: RUF012  (for the JSON file alone, and never written to)


class Size(NamedTuple):
    """How large everything is: the paper's model, or a tiny one that a CPU takes to the end."""

    tiny: bool
    resolution: int
    widths: list[int] | None
    batch_limit: int
    repeats: int
    patience: float  # a section's limit, over the seconds that it is planned to take

    @property
    def cuda(self) -> bool:
        return torch.cuda.is_available()

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.cuda else "cpu")

    def drained(self, run: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of work, the device drained before and after, and what it gave."""
        if self.cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        result = run()
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began, result

    def median(self, run: Callable[[], Any]) -> float:
        """Seconds of one call: a median of `repeats`, after two that are not measured."""
        return statistics.median([self.drained(run)[0] for _ in range(self.repeats + 2)][2:])

    def peak(self) -> float:
        """GiB that the device held at most since the last call."""
        if not self.cuda:
            return 0.0
        gib = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return gib

    def emptied(self) -> None:
        """Memory goes back to the device."""
        if self.cuda:
            torch.cuda.empty_cache()


PAPER = Size(False, 256, None, 512, 3, 2.0)
TINY = Size(True, 16, [8, 8, 8], 4, 1, 60.0)
