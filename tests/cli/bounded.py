"""Commands under bounds of memory and time, each in a process of its own that a server forks: its imports are done.

`python tests/cli/bounded.py` is the server: a JSON line in, a command; a JSON line out, its outcome.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Self

MEMORY = 2**30  # bytes of addresses beyond those of the imports
SECONDS = 60


class Outcome(NamedTuple):
    """How a command ended; a code below 0 is the signal that ended it."""

    code: int
    out: str
    err: str
    seconds: float


class Server:
    """Runs commands in a folder, one after another."""

    def __enter__(self) -> Self:
        command = [sys.executable, __file__]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *problem: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, words: list[str], folder: Path) -> Outcome:
        print(json.dumps([words, str(folder)]), file=self._process.stdin, flush=True)
        return Outcome(*json.loads(self._process.stdout.readline()))


def serve() -> None:
    import tempfile

    import imported

    imported.everything()
    imported.cut_short()
    # Child processes leave what they say in files: a pipe that nobody reads would stop them.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for line in sys.stdin:
            for file in (out, err):
                file.seek(0)
                file.truncate()
            words, folder = json.loads(line)
            began = time.monotonic()
            child = os.fork()
            if child == 0:
                run(words, folder, out.fileno(), err.fileno())
            status = os.waitpid(child, 0)[1]
            texts = (os.pread(file.fileno(), 2**22, 0).decode(errors="replace") for file in (out, err))
            print(json.dumps([os.waitstatus_to_exitcode(status), *texts, time.monotonic() - began]), flush=True)


def run(words: list[str], folder: str, out: int, err: int) -> None:
    """As the shell would run it, but for the imports. Never returns."""
    from hmgan.cli.app import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    os.chdir(folder)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    bound = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    signal.alarm(SECONDS)
    sys.argv = ["hmgan", *words]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
