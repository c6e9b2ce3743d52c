"""What SIGTERM, SIGUSR1 and Ctrl-C do to a run: finish the step, save, leave. A second one leaves at once.

Any other command leaves by an exception: what it was writing is removed on the way out. Both say at once that they have
heard: Python's handlers wait for the main thread, which may be in a long call or hang in a collective.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

REQUEUE = 85  # exit code: saved, to be started again
INTERRUPTED = 130  # the usual one of Ctrl-C
CODES = {signal.SIGTERM: REQUEUE, signal.SIGUSR1: REQUEUE, signal.SIGINT: INTERRUPTED}
# A launcher forwards a signal that the ranks were sent too: within this time both are one request.
ECHO = 1.0  # seconds
ENDING = (signal.SIGTERM, signal.SIGINT)
AGAIN = 0.05  # seconds after which an exception that was ignored is raised anew; several of them are still one ECHO

Handler = Callable[[int, FrameType | None], None]

_pipes: list[int] = []  # those that are written to, of `handled`


def _forget() -> None:
    """In a forked process, such as a loader's: what it is sent is not sent to the one that it was forked from."""
    if _pipes:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget)


@contextmanager
def handled(
    numbers: Iterable[int],
    handler: Handler,
    heard: Callable[[signal.Signals], None],
    afterwards: signal.Handlers | None = None,
) -> Iterator[None]:
    """Handles signals; a thread calls `heard` with the first as soon as it comes, and ends the process at the next.

    What comes while this is set up is handled once it stands. What comes while it is taken down is for `afterwards`, or
    for those who handled signals before: an exception of a handler in the midst of either would leave half of it.
    """
    stands = False
    pending: list[int] = []
    told: list[int] = []

    def called(number: int, frame: FrameType | None) -> None:
        if stands:
            handler(number, frame)
        else:
            pending.append(number)

    def tell(number: signal.Signals) -> None:
        told.append(number)
        heard(number)

    def pass_on() -> None:
        for number in pending:
            if told:  # this one has said that it obeys
                handler(number, None)
            else:
                signal.raise_signal(number)

    with ExitStack() as taken_down:
        taken_down.callback(pass_on)
        for number in numbers:
            taken_down.callback(signal.signal, number, signal.getsignal(number) if afterwards is None else afterwards)
            signal.signal(number, called)
        read, write = os.pipe()
        taken_down.callback(os.close, read)
        taken_down.callback(os.close, write)
        os.set_blocking(write, False)
        taken_down.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(write))
        os.write(write, bytes(pending))  # those before
        _pipes.append(write)
        taken_down.callback(_pipes.remove, write)
        reader = threading.Thread(target=_read, args=(read, called, tell), name="signals", daemon=True)
        reader.start()
        taken_down.callback(reader.join)
        taken_down.callback(os.write, write, bytes(1))  # ends the reader, after it has told what came before
        try:
            stands = True
            while pending:
                handler(pending.pop(0), None)
            yield
        finally:
            stands = False


def _read(pipe: int, handler: Handler, heard: Callable[[signal.Signals], None]) -> None:
    first = 0.0
    while number := os.read(pipe, 1)[0]:
        if signal.getsignal(number) is not handler:  # a library has taken it over, or it is of no interest
            continue
        received, now = signal.Signals(number), time.monotonic()
        if not first:
            first = now
            heard(received)
        elif now - first > ECHO:
            print(f"{received.name} again: leaving at once; what was saved is whole", file=sys.stderr, flush=True)
            os._exit(128 + received)


def ended_by_signals(command: Callable[[], None], afterwards: signal.Handlers | None = None) -> None:
    """Runs a whole command: a signal ends it with a line and 128 + its number. Off the main thread, only runs it.

    No context manager: a signal between its entry and the first line of the body would end the one and not the other.

    Args:
        command: what is run.
        afterwards: what handles the signals once the command has ended; left out, what did before.
    """
    if threading.current_thread() is not threading.main_thread():
        command()
        return
    running = False
    received: list[int] = []
    repeats: list[threading.Timer] = []
    own, hook = os.getpid(), sys.unraisablehook

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a loader's process, which has inherited this handler
            os._exit(128 + number)
        received.append(number)
        if running:
            raise SystemExit(128 + number)

    def heard(number: signal.Signals) -> None:
        print(f"{number.name}: ends this command; once more: at once", file=sys.stderr, flush=True)

    def ignored(what: sys.UnraisableHookArgs) -> None:
        # Raised in a callback, as of a weak reference during an import, where Python ignores it: once more, elsewhere.
        if received and isinstance(what.exc_value, SystemExit):
            repeats.append(threading.Timer(AGAIN, os.kill, (own, received[0])))
            repeats[-1].daemon = True
            repeats[-1].start()
        else:
            hook(what)

    sys.unraisablehook = ignored
    # One that is ignored, as by nohup or in a script's background, stays so.
    try:
        with handled([n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN], end, heard, afterwards):
            try:
                running = True
                if not received:
                    command()
            finally:
                running = False
                for repeat in repeats:
                    repeat.cancel()
    finally:
        sys.unraisablehook = hook
        if received:  # whatever a library has made of the exception
            print(f"stopped by {signal.Signals(received[0]).name}", file=sys.stderr, flush=True)
            raise SystemExit(128 + received[0])


class Interrupted(BaseException):
    """A signal came during work that a resumed run does again."""


class Stop:
    """Whether this rank was told to stop, and whether all ranks know: they stop after the same step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.agreed = False
        self._interrupts = False

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
    def interrupting(self) -> Iterator[None]:
        """Around work that a resumed run does again: a signal, also one that has come before, raises Interrupted."""
        if self.requested:
            raise Interrupted
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In place of the default, which would end the process."""
        if self._interrupts:
            self.signal, self._interrupts = signal.Signals(number), False
            raise Interrupted

    @contextmanager
    def listening(self, tell: bool = True) -> Iterator[None]:
        """Handles the signals while the run lasts, and says so at once if `tell`.

        Off the main thread, where Python allows no handlers, does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        handler = self._handle  # one object: a bound method is made anew each time

        def heard(number: signal.Signals) -> None:
            self.signal = number
            if tell:
                text = f"{number.name}: stops after this step or snapshot; once more: at once"
                print(text, file=sys.stderr, flush=True)

        with handled(CODES, handler, heard):
            yield
