"""Ranks watch over each other: where one has failed, died or hangs, all end, and say which one it was and where.

Every rank sends a heartbeat each second, from a thread and over a store of its own: its phase, how many collectives it
has entered, and its stack. Rank 0 judges all of them by its own clock, and the others watch rank 0 alone.
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
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Self

from torch.distributed import TCPStore

from hmgan.errors import UserError
from hmgan.train.distributed import flight

BEAT = 1.0  # seconds between heartbeats
SILENCE = 60.0  # seconds without one after which a rank is given up; train.timeout, where that is shorter
PATIENCE = 2.5  # beats, where a rank has failed already and the reason may be that another one has died
DEPTH = 8  # calls of a stack that a message names
FAULT, ACKS, DOUBT = "fault", "acks", "doubt"


@dataclass
class Whereabouts:
    """How far this rank is. The trainer and the runtime update it, at no cost."""

    phase: str = "preparing"
    collectives: int = 0  # that it has entered
    folder: Path | None = None  # the run directory, once there is one


class Fault(NamedTuple):
    """Why all ranks end. The first one published is the one that counts."""

    rank: int
    text: str
    code: int = 1


class Heartbeat(NamedTuple):
    """A rank's sign of life."""

    phase: str = "preparing"
    collectives: int = -1
    stack: str = "no sign of life yet"
    left: bool = False
    number: int = 0


class Seen(NamedTuple):
    """A rank's latest heartbeat, and when, on this rank's clock, it and its progress were last seen to change."""

    beat: Heartbeat
    heard: float
    moved: float

    def next(self, beat: Heartbeat, now: float) -> Seen:
        """The same after another look at the rank."""
        if beat == self.beat:
            return self
        return Seen(beat, now, self.moved if beat[:2] == self.beat[:2] else now)

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.beat.phase}, {self.beat.stack}"


class Watchdog:
    """Context manager around a run of several ranks. An exception on one rank ends all of them.

    Args:
        share: rank 0's value on every rank.
        loud: whether this rank speaks for its machine.
        timeout: seconds without progress after which a rank counts as hanging.
    """

    def __init__(
        self, whereabouts: Whereabouts, rank: int, world: int, share: Callable[[int], int], loud: bool, timeout: float
    ) -> None:
        self._whereabouts, self._rank, self._world, self._loud = whereabouts, rank, world, loud
        self._timeout, self._silence = timeout, min(timeout, SILENCE)
        self._beats, self._left, self._main = 0, False, threading.get_ident()
        self._ended, self._lock = threading.Event(), threading.Lock()
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if rank == 0 else None
        port, wait = share(store.port if store is not None else 0), timedelta(seconds=self._silence)
        self._store = store or TCPStore(
            os.environ["MASTER_ADDR"], port, is_master=False, wait_for_workers=False, timeout=wait
        )
        self._talked = time.monotonic()
        self._seen = {other: Seen(Heartbeat(), self._talked, self._talked) for other in range(1 if rank else world)}

    def __enter__(self) -> Self:
        for act in (self._talk, self._guard):
            threading.Thread(target=act, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
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
        """Rank 0, which hosts the store, leaves last."""
        self._left = True
        self._round()
        while self._rank == 0 and not all(seen.beat.left for seen in self._seen.values()):
            time.sleep(BEAT / 10)
            self._round()

    def _fail(self, error: BaseException) -> None:
        """Tells the others, and returns once they know."""
        if threading.current_thread() is threading.main_thread():
            # When a rank has died, its launcher ends the others; this one has yet to say which it was.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if isinstance(error, UserError):
            mine = Fault(self._rank, str(error), 2)
        else:
            mine = Fault(self._rank, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
            self._record()
            # It may have failed only because another rank is gone: time to find out which.
            self._store.set(DOUBT, "1")
            deadline = time.monotonic() + 2 * PATIENCE * BEAT
            while time.monotonic() < deadline:
                self._round()
                time.sleep(BEAT / 2)
        with self._lock:
            first = self._publish(mine)
            if first.rank != self._rank:
                self._give_up(first, quiet=first.text == mine.text)  # where all failed alike, one says so
            self._wait_for_the_others()

    def _talk(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                self._round()
            except RuntimeError:
                if not self._ended.is_set():
                    self._give_up(self._lost())

    def _guard(self) -> None:
        """In a thread of its own: `_talk` hangs where the process that hosts the store is stopped."""
        while not self._ended.wait(BEAT):
            # Nothing in Python could report a process that holds the interpreter's lock for ever.
            faulthandler.dump_traceback_later(2 * self._silence, exit=True)
            if self._ended.is_set():  # since it was looked at: who ended it may have cancelled already
                faulthandler.cancel_dump_traceback_later()
            if self._rank != 0 and time.monotonic() - self._talked > self._silence:
                self._give_up(self._lost())

    def _round(self) -> None:
        """Sends a heartbeat, looks for a fault, and at the others' heartbeats."""
        with self._lock:
            if self._ended.is_set():
                return
            self._beats += 1
            here = self._whereabouts
            beat = Heartbeat(here.phase, here.collectives, stack(self._main), self._left, self._beats)
            self._store.set(f"beat{self._rank}", json.dumps(beat))
            if self._left and self._rank != 0:  # rank 0 may close the store from now on
                self._ended.set()
                return
            if self._store.check([FAULT]):
                self._give_up(Fault(*json.loads(self._store.get(FAULT))))
            before, self._talked = self._talked, time.monotonic()
            if self._talked - before > PATIENCE * BEAT:  # it was this process that was held up
                self._seen = {rank: seen._replace(heard=self._talked) for rank, seen in self._seen.items()}
            fault = self._look(self._talked)
            if fault is not None:
                self._give_up(self._publish(fault))

    def _look(self, now: float) -> Fault | None:
        """At the heartbeats of the ranks that this one watches."""
        sent = {rank: f"beat{rank}" for rank in self._seen if self._store.check([f"beat{rank}"])}
        for rank, found in zip(sent, self._store.multi_get(list(sent.values())) if sent else [], strict=True):
            self._seen[rank] = self._seen[rank].next(Heartbeat(*json.loads(found)), now)
        limit = PATIENCE * BEAT if self._store.check([DOUBT]) else self._silence
        present = {rank: seen for rank, seen in self._seen.items() if not seen.beat.left}
        for rank, seen in present.items():
            if now - seen.heard > limit:
                return Fault(rank, f"gave no sign of life for {now - seen.heard:.0f} s; last seen in {seen.where}")
        if self._rank != 0 or not present:
            return None
        slowest, seen = min(present.items(), key=lambda item: item[1].beat.collectives)
        if now - seen.moved > self._timeout:
            return Fault(slowest, f"has not moved on for {now - seen.moved:.0f} s (train.timeout) in {seen.where}")
        return None

    def _lost(self) -> Fault:
        """Rank 0, which hosts the store, does not answer."""
        self._loud = True  # the rank that speaks for this machine may be gone
        return Fault(0, f"no longer answers; last seen in {self._seen[0].where}")

    def _publish(self, fault: Fault) -> Fault:
        """Publishes it, unless there is one already; the one that counts."""
        return Fault(*json.loads(self._store.compare_set(FAULT, "", json.dumps(fault))))

    def _wait_for_the_others(self) -> None:
        """Until they have read the fault, or had the time to."""
        deadline = time.monotonic() + 2 * PATIENCE * BEAT
        with suppress(RuntimeError):  # rank 0 has gone, and the store with it
            self._store.add(ACKS, 1)
            while time.monotonic() < deadline and self._store.add(ACKS, 0) < self._world:
                time.sleep(BEAT / 10)

    def _record(self) -> None:
        if self._whereabouts.folder is not None:
            flight.write(self._whereabouts.folder, self._rank)

    def _give_up(self, fault: Fault, quiet: bool = False) -> None:
        """Ends this process at once, from whatever thread: the main one may wait in a collective for ever."""
        self._record()
        if fault.rank == self._rank:
            faulthandler.dump_traceback()
        if not quiet and (self._loud or fault.rank == self._rank):
            print(f"error: rank {fault.rank}: {fault.text}", file=sys.stderr, flush=True)
        try:
            if self._rank == 0:
                self._wait_for_the_others()
                time.sleep(BEAT / 2)  # the rank that published may still read the acknowledgements in this store
            elif fault.rank != 0:
                self._store.add(ACKS, 1)
        finally:
            os._exit(fault.code)


def stack(thread: int) -> str:
    """The innermost calls of a thread, innermost first, on one line."""
    calls = list(traceback.walk_stack(sys._current_frames().get(thread)))[:DEPTH]
    return " < ".join(f"{os.path.basename(f.f_code.co_filename)}:{line} {f.f_code.co_name}" for f, line in calls)
