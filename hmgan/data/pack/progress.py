"""Progress of long work, shown on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.text import Text


@contextmanager
def counting(what: str, total: int, done: int = 0) -> Iterator[Callable[[], object]]:
    """A bar with counts and the time left; what it yields is to be called once per thing finished."""
    console = Console(stderr=True, markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


def busy(what: str) -> Status:
    """A spinner, for work whose end is not known."""
    return Console(stderr=True).status(Text(what))  # a name in brackets is no markup
