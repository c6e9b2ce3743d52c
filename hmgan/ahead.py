"""Random numbers drawn one step ahead, in a thread: what a step asks for, the next one asks for too, nearly always.

They are functions of their keys alone. So it does not matter when they are drawn, and a step that asks for others than
were expected draws those itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Keys = tuple[int, ...]
Request = tuple[Callable[..., Any], Keys, tuple[Hashable, ...]]

alone = Lock()  # of whoever must have the device without this thread, to capture what it is given


class Ahead:
    """The thread, which starts with the first draw and ends with the context, its draw at the time finished."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = ThreadPoolExecutor(1, "draws", self._begin)
        self._drawn: dict[Request, Future[Any]] = {}  # for this step
        self._expected: dict[Request, Future[Any]] = {}  # for the next
        self._following: dict[Keys, Callable[[], Sequence[int]]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is asked for inside is of one step, and is drawn for the next one, too."""
        global _current
        for unwanted in self._drawn.values():
            unwanted.cancel()
        self._drawn, self._expected, self._following = self._expected, {}, {}
        before, _current = _current, self
        try:
            yield
        finally:
            _current = before

    def follow(self, keys: Sequence[int], following: Callable[[], Sequence[int]]) -> None:
        self._following[tuple(keys)] = following

    def drawn(self, make: Callable[..., T], keys: Sequence[int], *rest: Hashable) -> T:
        following = self._following.get(tuple(keys))
        if following is not None:
            theirs = tuple(following())
            if (make, theirs, rest) not in self._expected:
                self._expected[make, theirs, rest] = self._pool.submit(_undisturbed, make, theirs, rest)
        found: Future[T] | None = self._drawn.get((make, tuple(keys), rest))
        return make(keys, *rest) if found is None else found.result()

    def _begin(self) -> None:
        if self._device.type == "cuda":  # or memory is pinned for the first one
            torch.cuda.set_device(self._device)


def _undisturbed(make: Callable[..., T], keys: Sequence[int], rest: tuple[Hashable, ...]) -> T:
    with alone:
        return make(keys, *rest)


_current: Ahead | None = None


def follow(keys: Sequence[int], following: Callable[[], Sequence[int]]) -> None:
    """Says which keys the next step has in place of these."""
    if _current is not None:
        _current.follow(keys, following)


def drawn(make: Callable[..., T], keys: Sequence[int], *rest: Hashable) -> T:
    """make(keys, *rest), which must be a function of these alone; from the thread where it was expected.

    Nothing may be written to it: whoever asks again in the same step is given the same.
    """
    return make(keys, *rest) if _current is None else _current.drawn(make, keys, *rest)
