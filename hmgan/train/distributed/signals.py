"""What SIGTERM, SIGUSR1 and Ctrl-C do to a run: finish the step, save, leave. A second one leaves at once.

Any other command leaves at once, by an exception: what it was writing is removed on the way out.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REQUEUE = 85  # exit code: saved, to be started again
INTERRUPTED = 130  # the usual one of Ctrl-C
CODES = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: INTERRUPTED}
# A launcher forwards a signal that the ranks were sent too: within this time both are one request.
ECHO = 1.0  # seconds
ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Around a whole command: a signal ends it with a line and 128 + its number. Off the main thread, does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    own = os.getpid()

    def end(number: int, frame: object) -> None:
        if os.getpid() != own:  # a loader's process, which has inherited this handler
            os._exit(128 + number)
        received.append(number)
        raise SystemExit(128 + number)

    # One that is ignored, as by nohup or in a script's background, stays so.
    before = {number: signal.getsignal(number) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:  # whatever a library has made of the exception
            print(f"stopped by {signal.Signals(received[0]).name}", file=sys.stderr, flush=True)
            raise SystemExit(128 + received[0])


class Stop:
    """Whether this rank was told to stop, and whether all ranks know: they stop after the same step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.agreed = False

    @property
    def requested(self) -> bool:
        return self.signal is not None

    @property
    def code(self) -> int:
        """The exit code."""
        return REQUEUE if self.signal is None else CODES[self.signal]

    @property
    def reason(self) -> str:
        return "another rank" if self.signal is None else self.signal.name

    @contextmanager
    def listening(self, tell: bool = True) -> Iterator[None]:
        """Handles the signals while the run lasts, and says so at once if `tell`.

        Off the main thread, where Python allows no handlers, does nothing.

        A thread reads them from a pipe: Python's handlers need the main thread, which may hang in a collective.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        read, write = os.pipe()
        os.set_blocking(write, False)
        # A handler that does nothing, in place of the default, which would end the process.
        before = {number: signal.signal(number, lambda *_: None) for number in CODES}
        wakeup = signal.set_wakeup_fd(write)
        reader = threading.Thread(target=self._read, args=(read, tell), name="signals", daemon=True)
        reader.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write)  # ends the reader
            reader.join()
            os.close(read)

    def _read(self, pipe: int, tell: bool) -> None:
        first = 0.0
        while number := os.read(pipe, 1):
            if number[0] not in CODES:
                continue
            received, now = signal.Signals(number[0]), time.monotonic()
            if self.signal is None:
                self.signal, first = received, now
                if tell:
                    text = f"{received.name}: stops after this step or snapshot; once more: at once"
                    print(text, file=sys.stderr, flush=True)
            elif now - first > ECHO:
                print(f"{received.name} again: leaving at once; what was saved is whole", file=sys.stderr, flush=True)
                os._exit(128 + received)
