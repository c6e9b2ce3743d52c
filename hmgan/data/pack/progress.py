"""Progress of long work, shown on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status


@contextmanager
def counting(what: str, total: int, done: int = 0) -> Iterator[Callable[[], object]]:
    """A bar with counts and the time left; what it yields is to be called once per thing finished."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(what), total=total, completed=done)
        yield lambda: bar.advance(task)


def busy(what: str) -> Status:
    """A spinner, for work whose end is not known. A name such as [/] in `what` is no markup."""
    return Console(stderr=True).status(escape(what))
