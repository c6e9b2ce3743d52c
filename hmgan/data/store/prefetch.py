"""Work done in advance by a few threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
THREAD = "prefetch"


class Prefetch(Generic[T]):
    """Calls `action` on the items wanted, in order, `threads` at a time.

    Failures are ignored: what failed is tried again, and reported, where it is needed. The threads end with the work,
    and are daemons, so that a run that ends does not wait for them.
    """

    def __init__(self, action: Callable[[T], None], threads: int) -> None:
        self._action, self._threads = action, threads
        self._queue: deque[T] = deque()
        self._running = 0
        self._lock = threading.Lock()

    def want(self, items: Iterable[T]) -> None:
        """Replaces the items wanted; those under way are finished."""
        with self._lock:
            self._queue = deque(items)
            missing = min(self._threads - self._running, len(self._queue))
            self._running += missing
        for _ in range(missing):
            threading.Thread(target=self._work, name=THREAD, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                item = self._queue.popleft()
            try:
                self._action(item)
            except Exception:
                continue
