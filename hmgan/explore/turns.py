"""Who may use the models next: one at a time, the newest first, and nobody whose reader has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_WAITING = 64


class LeftError(Exception):
    """The reader of an image has gone, or is one of too many."""


class Turns:
    """A lock that goes to the newest of those who wait: what was asked for last is what a person looks at."""

    def __init__(self) -> None:
        self._changed, self._waiting, self._busy = threading.Condition(), list[object](), False

    @contextmanager
    def turn(self, left: Callable[[], bool]) -> Iterator[None]:
        """Raises LeftError if the reader has gone by then, or where too many newer ones wait."""
        me = object()
        with self._changed:
            self._waiting.append(me)
            if len(self._waiting) > MOST_WAITING:
                self._waiting.pop(0)
                self._changed.notify_all()
            self._changed.wait_for(lambda: me not in self._waiting or (not self._busy and self._waiting[-1] is me))
            if me not in self._waiting:
                raise LeftError
            self._waiting.remove(me)
            if left():
                self._changed.notify_all()
                raise LeftError
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
