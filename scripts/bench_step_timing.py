"""How bench_step.py measures: medians of alternating turns, and the peak memory of a process of its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
from styled_reference import Variants
from torch import Tensor, nn

Key = TypeVar("Key")


class Pace(NamedTuple):
    """How it is timed."""

    repeats: int
    clock: Callable[[], float]


def alternating(
    runs: Mapping[Key, Callable[[], object]], pace: Pace, after: Callable[[Key], object] = lambda _: None
) -> dict[Key, float]:
    """Median seconds of each, taking turns after one unmeasured turn."""
    seconds: dict[Key, list[float]] = {name: [] for name in runs}
    for turn in range(pace.repeats + 1):
        for name, run in runs.items():
            began = pace.clock()
            run()
            if turn:
                seconds[name].append(pace.clock() - began)
            after(name)
    return {name: statistics.median(times) for name, times in seconds.items()}


def keep_freed_memory() -> None:
    """Freed memory stays with this process, as a GPU's allocator keeps it: mapping it anew takes a third of ours."""
    if sys.platform == "linux":
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)  # never


def forward_and_backward(made: Variants, pace: Pace) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds of each variant: of the forward pass alone, and of both."""
    forward = {name: torch.no_grad()(run) for name, run in made.runs.items()}
    both = {name: with_backward(run, made.networks[name]) for name, run in made.runs.items()}
    return _milliseconds(alternating(forward, pace)), _milliseconds(alternating(both, pace))


def with_backward(run: Callable[[], Tensor], network: nn.Module) -> Callable[[], object]:
    def both() -> None:
        network.zero_grad(set_to_none=True)
        y = run()
        y.backward(torch.ones_like(y))

    return both


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}


def peak_gib(threads: int, run: Callable[..., object], *arguments: object) -> float:
    """The peak of a process that only makes this call."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_gib, (threads, run, *arguments))


def _peak_gib(threads: int, run: Callable[..., object], *arguments: object) -> float:
    torch.set_num_threads(threads)
    run(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
