"""What a probe finds: lines to show, and what is wrong with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

from hmgan.units import size


class Section(NamedTuple):
    """One part of the page.

    Args:
        rows: pairs of what was looked at and what was found.
        problems: each one line: what is wrong, and what to do.
    """

    title: str
    rows: list[tuple[str, str]]
    problems: list[str]

    @staticmethod
    def empty(title: str) -> Section:
        return Section(title, [], [])


class Watch:
    """Seconds that a block took."""

    seconds = 0.0


@contextmanager
def watch() -> Iterator[Watch]:
    timer, start = Watch(), perf_counter()
    yield timer
    timer.seconds = perf_counter() - start


def rate(count: float, seconds: float) -> str:
    return f"{size(count / max(seconds, 1e-9))}/s"
