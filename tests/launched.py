"""Ranks as real processes, of `hmgan` or of a function. A server that has imported everything once forks them off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tiny", "hmgan.train.command", "torch.distributed", "torch._dynamo", "accelerate.tracking"]
)
DEADLINE = 600  # seconds; on a machine at rest it is seconds


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# In place of `python`: the real one, with another module where hmgan would be.
STAND_IN = """#!/usr/bin/env bash
words=()
for word in "$@"; do
    if [ "$word" = hmgan ]; then words+=({module}); else words+=("$word"); fi
done
exec {python} "${{words[@]}}"
"""


def python_of(folder: Path, module: str) -> str:
    """A `python` for launch files, which runs a module in place of hmgan."""
    path = folder / "python"
    path.write_text(STAND_IN.format(module=module, python=sys.executable))
    path.chmod(0o755)
    return str(path)


def start(arguments: list[object], ranks: int, output: Path, prepare: Callable[[], object] | None = None) -> Ranks:
    """`hmgan ARGUMENTS` as so many ranks; each calls `prepare` first."""
    return call(partial(_command, list(map(str, arguments)), prepare), ranks, output)


def end(
    arguments: list[object], output: Path, ranks: int = 2, prepare: Callable[[], object] | None = None
) -> tuple[list[int | None], str]:
    """The exit codes of `hmgan ARGUMENTS`, and what all ranks said: as one text, of which a failure shows all."""
    started = start(arguments, ranks, output, prepare)
    try:
        return started.codes(), "\n".join(started.said())
    finally:
        started.kill()


def stop(arguments: list[object], output: Path, begun: Callable[[], object]) -> None:
    """`hmgan ARGUMENTS` as two ranks, of which the second is told to stop once they have begun: both do."""
    started = start(arguments, 2, output)
    try:
        started.until(begun)
        started.signal(1, signal.SIGTERM)
        assert started.codes() == [85, 85], started.said()
    finally:
        started.kill()


def call(function: Callable[[], object], ranks: int, output: Path) -> Ranks:
    """A function of a module, or a `partial` of one, as so many ranks; what they say is kept in a folder."""
    output.mkdir(parents=True, exist_ok=True)
    common = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    common |= {name: os.environ[name] for name in {"HMGAN_CACHE"} & os.environ.keys()}  # none yet in a module's fixture
    port = free_port()
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    common |= {"LOCAL_WORLD_SIZE": str(ranks)}
    processes = [
        CONTEXT.Process(target=_rank, args=(function, common | _own(rank), output / f"rank{rank}.txt"))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    return Ranks(processes, output, port)


def _own(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _rank(function: Callable[[], object], environment: dict[str, str], output: Path) -> None:
    os.environ.update(environment)
    if environment["WORLD_SIZE"] == "1":  # no launcher at all
        for name in environment.keys() & {"WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK"}:
            del os.environ[name]
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    import torch

    torch.set_num_threads(1)
    try:
        function()
    except Exception:  # multiprocessing would say it on the tests' own stderr
        traceback.print_exc()
        sys.exit(1)


def _command(arguments: list[str], prepare: Callable[[], object] | None) -> None:
    from hmgan.cli.app import main

    if prepare is not None:
        prepare()
    sys.argv = ["hmgan", *arguments]
    main()


class Ranks:
    """Running ranks."""

    def __init__(self, processes: list[BaseProcess], output: Path, port: int) -> None:
        self.processes, self._output, self.port = processes, output, port

    def signal(self, rank: int, number: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def said(self) -> list[str]:
        paths = (self._output / f"rank{rank}.txt" for rank in range(len(self.processes)))
        return [path.read_text() if path.exists() else "" for path in paths]

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for it while all of them run."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert all(process.is_alive() for process in self.processes), self.said()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def codes(self, timeout: float = DEADLINE, of: slice = slice(None)) -> list[int | None]:
        """Their exit codes, once they have ended; None for one that has not."""
        deadline = time.monotonic() + timeout
        for process in self.processes[of]:
            process.join(max(0.0, deadline - time.monotonic()))
        return [process.exitcode for process in self.processes[of]]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def interruptible() -> None:
    """A process's first act (`preexec_fn`): SIGINT interrupts it, even where the tests ignore that themselves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
