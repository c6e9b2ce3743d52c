"""Real commands that are signalled while they are at work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launched import interruptible


@contextmanager
def at_work(
    words: Sequence[object],
    ready: Callable[[subprocess.Popen[str]], bool],
    patience: float,
    cwd: Path | None = None,
    **variables: str,
) -> Iterator[subprocess.Popen[str]]:
    """`hmgan WORDS`, once it is `ready`, which takes some seconds at the most; ended afterwards, if it has not."""
    with subprocess.Popen(
        [sys.executable, "-m", "hmgan", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=interruptible,
    ) as process:
        try:
            deadline = time.monotonic() + patience
            while not ready(process):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield process
        finally:
            process.kill()
