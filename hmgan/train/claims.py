"""One process per cell of a study, and per run directory, on one machine or on several that share a folder.

The claims are files numbered 1, 2, 3, ... The highest holds, and each is made by exclusive creation, so of all the
processes that want the next number exactly one gets it. A number is never used twice, and no claim is ever removed: a
process that looked long ago cannot mistake a newer claim for the one it saw.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from hmgan.errors import UserError
from hmgan.files import write_atomically

BEAT = 5.0  # seconds between heartbeats
# Without a heartbeat for so long, a claim of another machine lapses. Shared folders may show times a minute late.
STALE = 180.0


class CellLock:
    """A claim that was won. `beat` keeps it; leaving the context gives it up."""

    def __init__(self, path: Path) -> None:
        self.path = path  # the claim's file, newly made by this process
        self._beaten = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        with suppress(OSError):  # of a full disk: the claim then ends with the process
            if self.held():
                owner = json.dumps({**_owner(), "released": True})
                write_atomically(self.path, lambda part: part.write_text(owner, encoding="utf-8"))

    def held(self) -> bool:
        """Whether no other process took the cell over, as one may after this one was suspended for long."""
        return _highest(self.path.parent) == self.path

    def beat(self) -> bool:
        """Renews the claim if it is time to, and says whether it is still held."""
        if time.monotonic() - self._beaten < BEAT:
            return True
        self._beaten = time.monotonic()
        if not self.held():
            return False
        os.utime(self.path)
        return True


def take(folder: Path) -> CellLock | None:
    """The claim on a cell, or None if a living process holds it. A claim whose process is gone is taken over."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = _highest(folder)
    if newest is not None and holder(folder) is not None:
        return None
    number = 1 if newest is None else int(newest.stem) + 1
    path = folder / f"{number:06d}.json"
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(_owner(), file)
    except FileExistsError:
        return None
    return CellLock(path)


def holder(folder: Path) -> str | None:
    """`host, pid` of the living process that holds a cell; None if nobody does."""
    newest = _highest(folder)
    if newest is None:
        return None
    try:
        owner: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    except json.JSONDecodeError:  # being written this moment, or cut short by a crash: only its age tells
        return None if _silence(newest) > STALE else "a process that is starting"
    if owner.get("released"):
        return None
    # A process of this machine is asked for directly: after a crash, nobody waits for a heartbeat to lapse.
    here = owner["machine"] == _machine()
    gone = _started(owner["pid"]) != owner["started"] if here and owner["started"] else _silence(newest) > STALE
    return None if gone else f"{owner['host']}, pid {owner['pid']}"


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Holds the claim while the context lasts. One of another machine is watched until it shows a beat, or lapses.

    Raises: UserError, naming the process, if one holds `what`.
    """
    claim, beat = take(folder), None
    while claim is None:
        name, newest = holder(folder), _highest(folder)
        seen = None if newest is None else newest.stat().st_mtime
        if name is not None and (_is_here(newest) or beat not in (None, seen)):
            raise UserError(f"{what} is being trained by another process ({name}); wait for it, or end it")
        beat = seen
        time.sleep(0.0 if name is None else 1.0)
        claim = take(folder)
    ended = threading.Event()

    def keep(claim: CellLock) -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                claim.beat()

    thread = threading.Thread(target=keep, args=(claim,), name="claim", daemon=True)
    thread.start()
    try:
        with claim:
            yield
    finally:
        ended.set()
        thread.join()


def _is_here(claim: Path | None) -> bool:
    """Whether a claim's process, if it can be told, is one of this machine."""
    try:
        return claim is not None and json.loads(claim.read_text(encoding="utf-8"))["machine"] == _machine()
    except json.JSONDecodeError:  # being written this moment
        return False


def _highest(folder: Path) -> Path | None:
    return max(folder.glob("[0-9]*.json"), key=lambda path: int(path.stem), default=None)


def _owner() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "machine": _machine()}


def _silence(claim: Path) -> float:
    """Seconds since the last heartbeat, by the file system's own time: the clocks of two machines may differ."""
    with tempfile.TemporaryFile(dir=claim.parent) as now:
        return os.fstat(now.fileno()).st_mtime - claim.stat().st_mtime


def _started(pid: int) -> str | None:
    """When a process began, which tells it from a later one with its number; None if it is gone or cannot be told."""
    try:
        # Behind the command in brackets, which may hold anything: the state, and the start as the 20th field.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _machine() -> str:
    """This kernel and its process numbers: containers may share a host name, and count from 1 each."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
