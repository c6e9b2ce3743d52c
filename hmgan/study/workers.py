"""`--workers`: what runs a study's cells at once, on the cores and GPUs of one machine."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import NamedTuple

import torch

from hmgan.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Worker(NamedTuple):
    """Runs one cell at a time, each in a process with `environment` over this process's own."""

    environment: dict[str, str]


HERE = Worker({})  # as this process itself would run a cell


class Limit:
    """When to stop: after some minutes, or when `stop` is called, as an interrupt does."""

    def __init__(self, minutes: float | None = None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._stopped = threading.Event()

    @property
    def reached(self) -> bool:
        return self._stopped.is_set() or (self._end is not None and time.monotonic() >= self._end)

    def stop(self) -> None:
        self._stopped.set()


def workers(text: str) -> list[Worker]:
    """The workers of `4`, `cpu:14` or `cuda:3,cpu:2`. A number alone is of GPUs where there are any.

    Workers on GPUs take them in turn, so that several may share one. Workers on the CPU share its cores, unless the
    environment says how many threads each has.

    Raises: UserError for anything else, or cuda where there is none.
    """
    found: list[Worker] = []
    gpus = _visible_gpus()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(cpu|cuda):)?([1-9]\d{0,2})\s*", part)
        if not match:
            wanted = "a number from 1 to 999, cpu:N or cuda:N, or both joined by a comma"
            raise UserError(f"--workers wants {wanted}, got {text!r}")
        device, count = match[1] or ("cuda" if gpus else "cpu"), int(match[2])
        if device == "cuda" and not gpus:
            raise UserError("--workers names cuda, and no GPU is to be seen here; use cpu:N, or see hmgan doctor")
        if device == "cuda":
            found += [Worker({VISIBLE: gpus[i % len(gpus)]}) for i in range(count)]
        else:
            share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, cores() // count))}
            found += [Worker({VISIBLE: "", **share})] * count
    return found


def _visible_gpus() -> list[str]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES gives them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return named[:count] or [str(i) for i in range(count)]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))
