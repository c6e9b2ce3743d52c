"""Ranks watch over each other: where one has failed, died or hangs, all end, and say which one it was and where.

Every rank gives a sign of life each second, over a store of its own and from a thread: the phase it is in, how many
collectives it has entered, and its stack. Rank 0 judges them by its own clock, and the others look at rank 0 alone.
The rank that has entered the fewest collectives is the one that the others wait for.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

from torch.distributed import TCPStore

from hmgan.errors import UserError

BEAT = 1.0  # seconds between signs of life
SILENCE = 60.0  # seconds without one after which a rank is given up; train.timeout, where that is shorter
PATIENCE = 2.5  # beats, where a rank has failed already and the reason may be that another one has died
DEPTH = 8  # calls of a stack that are told
FAULT, ACKS, DOUBT = "fault", "acks", "doubt"


class Progress:
    """How far this rank is. The trainer and the runtime mark it; it costs nothing."""

    def __init__(self) -> None:
        self.phase, self.collectives = "preparing", 0

    def at(self, phase: str) -> None:
        self.phase = phase

    def meet(self) -> None:
        """Before every collective."""
        self.collectives += 1


class Fault(NamedTuple):
    """Why all ranks end. The first one told is the one that counts."""

    rank: int
    text: str
    code: int = 1


class Sign(NamedTuple):
    """A rank's latest sign of life, and when, on this rank's clock, it and its progress were last seen to change."""

    content: dict[str, Any]
    heard: float
    moved: float

    def next(self, content: dict[str, Any], now: float) -> Sign:
        if content == self.content:
            return self
        moved = content["collectives"] != self.content["collectives"] or content["phase"] != self.content["phase"]
        return Sign(content, now, now if moved else self.moved)

    @property
    def where(self) -> str:
        return f"{self.content['phase']}, {self.content['stack']}"


class Watch:
    """Context manager around a run of several ranks. An exception on one rank ends all of them.

    Args:
        share: rank 0's value on every rank.
        loud: whether this rank speaks for its machine.
        timeout: seconds without progress after which a rank is said to hang.
    """

    def __init__(
        self, progress: Progress, rank: int, world: int, share: Callable[[int], int], loud: bool, timeout: float
    ) -> None:
        self._progress, self._rank, self._world, self._loud = progress, rank, world, loud
        self._timeout, self._silence = timeout, min(timeout, SILENCE)
        self._beats, self._left, self._main = 0, False, threading.get_ident()
        self._ended, self._lock = threading.Event(), threading.Lock()
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if rank == 0 else None
        port = share(store.port if store is not None else 0)
        host = os.environ["MASTER_ADDR"]
        wait = timedelta(seconds=self._silence)
        self._store = store or TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=wait)
        self._judged = range(world) if rank == 0 else range(1)  # whose signs this rank looks at
        blank = {"phase": "preparing", "collectives": -1, "stack": "no sign of life yet", "left": False}
        self._talked = time.monotonic()
        self._signs = {other: Sign(blank, self._talked, self._talked) for other in self._judged}

    def __enter__(self) -> Self:
        for act in (self._talk, self._guard):
            threading.Thread(target=act, name="watch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or kind is SystemExit:  # a stop by signal, which all ranks agreed on
                self._leave()
            else:
                self._fail(error)
        except RuntimeError:
            self._give_up(self._lost())
        self._ended.set()
        faulthandler.cancel_dump_traceback_later()

    def _leave(self) -> None:
        """Rank 0 goes last: the store is its own."""
        self._left = True
        self._round()
        while self._rank == 0 and not all(sign.content["left"] for sign in self._signs.values()):
            time.sleep(BEAT / 10)
            self._round()

    def _fail(self, error: BaseException) -> None:
        """Tells the others, and returns once they know."""
        if threading.current_thread() is threading.main_thread():
            # A launcher ends the ranks that are left when one has died, and this one has yet to say which.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not isinstance(error, UserError):
            # It may have failed only because another rank is gone: time to find out which.
            self._store.set(DOUBT, "1")
            deadline = time.monotonic() + 2 * PATIENCE * BEAT
            while time.monotonic() < deadline:
                self._round()
                time.sleep(BEAT / 2)
        own = isinstance(error, UserError)
        message = str(error) if own else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        mine = Fault(self._rank, message, 2 if own else 1)
        with self._lock:
            first = self._tell(mine)
            if first.rank != self._rank:
                self._give_up(first, quiet=first.text == message)  # where all failed alike, one says so
            self._wait_for_the_others()

    def _talk(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._round()
            except RuntimeError:
                if not self._ended.is_set():
                    self._give_up(self._lost())

    def _guard(self) -> None:
        """Apart from the talk, which hangs where the process that keeps the store is stopped."""
        while not self._ended.wait(BEAT):
            # Of a process that holds the interpreter's lock for ever, nothing in Python could tell.
            faulthandler.dump_traceback_later(2 * self._silence, exit=True)
            if self._rank != 0 and time.monotonic() - self._talked > self._silence:
                self._give_up(self._lost())

    def _round(self) -> None:
        """Gives a sign of life, listens for a fault, and looks at the others' signs."""
        with self._lock:
            if self._ended.is_set():
                return
            self._beats += 1
            progress = {"phase": self._progress.phase, "collectives": self._progress.collectives, "left": self._left}
            content = {**progress, "beat": self._beats, "stack": stack(self._main)}
            self._store.set(f"sign{self._rank}", json.dumps(content))
            if self._left and self._rank != 0:  # rank 0 may take the store away from now on
                self._ended.set()
                return
            if self._store.check([FAULT]):
                self._give_up(Fault(*json.loads(self._store.get(FAULT))))
            before, self._talked = self._talked, time.monotonic()
            if self._talked - before > PATIENCE * BEAT:  # it was this process that was held up
                self._signs = {rank: sign._replace(heard=self._talked) for rank, sign in self._signs.items()}
            fault = self._look(self._talked)
            if fault is not None:
                self._give_up(self._tell(fault))

    def _look(self, now: float) -> Fault | None:
        """At the signs of the ranks that this one judges."""
        keys = {rank: f"sign{rank}" for rank in self._judged}
        there = {rank: key for rank, key in keys.items() if self._store.check([key])}
        for rank, found in zip(there, self._store.multi_get(list(there.values())) if there else [], strict=True):
            self._signs[rank] = self._signs[rank].next(json.loads(found), now)
        doubt = self._store.check([DOUBT])
        limit = PATIENCE * BEAT if doubt else self._silence
        present = {rank: sign for rank, sign in self._signs.items() if not sign.content["left"]}
        for rank, sign in present.items():
            if now - sign.heard > limit:
                return Fault(rank, f"gave no sign of life for {now - sign.heard:.0f} s; last seen in {sign.where}")
        if self._rank != 0 or not present:
            return None
        slowest = min(present, key=lambda rank: present[rank].content["collectives"])
        sign = present[slowest]
        if now - sign.moved > self._timeout:
            text = f"has not moved on for {now - sign.moved:.0f} s (train.timeout) in {sign.where}"
            return Fault(slowest, text)
        return None

    def _lost(self) -> Fault:
        """Rank 0, which keeps the store, does not answer."""
        sign, self._loud = self._signs[0], True  # who would have spoken for this machine may be gone
        return Fault(0, f"no longer answers; last seen in {sign.where}")

    def _tell(self, fault: Fault) -> Fault:
        """Publishes it, unless there is one already; the one that counts."""
        return Fault(*json.loads(self._store.compare_set(FAULT, "", json.dumps(fault))))

    def _wait_for_the_others(self) -> None:
        """Until they have read the fault, or had the time to."""
        deadline = time.monotonic() + 2 * PATIENCE * BEAT
        with suppress(RuntimeError):  # rank 0 has gone, and the store with it
            self._store.add(ACKS, 1)
            while time.monotonic() < deadline and self._store.add(ACKS, 0) < self._world:
                time.sleep(BEAT / 10)

    def _give_up(self, fault: Fault, quiet: bool = False) -> None:
        """Ends this process at once, from whatever thread: the main one may wait in a collective for ever."""
        if fault.rank == self._rank:
            faulthandler.dump_traceback()
        if not quiet and (self._loud or fault.rank == self._rank):
            print(f"error: rank {fault.rank}: {fault.text}", file=sys.stderr, flush=True)
        try:
            if self._rank == 0:
                self._wait_for_the_others()
                time.sleep(BEAT / 2)  # the one that told may be looking whether all know, in the store that ends here
            elif fault.rank != 0:
                self._store.add(ACKS, 1)
        finally:
            os._exit(fault.code)


def stack(thread: int) -> str:
    """The innermost calls of a thread, innermost first, on one line."""
    calls: list[str] = []
    frame = sys._current_frames().get(thread)
    while frame is not None and len(calls) < DEPTH:
        code = frame.f_code
        calls.append(f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return " < ".join(calls)
