"""torchrun, as launch/torchrun.sh starts it, ends as its ranks do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from hmgan.files import launch_file
from hmgan.launch import torchrun
from hmgan.train.distributed.signals import REQUEUE


@pytest.mark.parametrize(("codes", "expected"), [((REQUEUE, -15), REQUEUE), ((3, REQUEUE), 3), ((-9, 1), 137)])
def test_the_rank_that_fails_first_says_how_it_ends(codes, expected, monkeypatch, capsys):
    def failing(arguments):
        failures = {rank: ProcessFailure(rank, 0, code, "") for rank, code in enumerate(codes)}
        for rank, failure in failures.items():
            failure.timestamp = rank
        raise ChildFailedError("hmgan", failures)

    monkeypatch.setattr(torchrun.run, "main", failing)
    assert torchrun.main([]) == expected
    told = "" if expected == REQUEUE else f"rank 0 failed first, with exit code {codes[0]}\n"
    assert capsys.readouterr().err == told


RANK = """
import os, pathlib, signal, sys, time
here, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
def stop(number, frame):
    time.sleep(0.5)  # saving
    (here / f"saved{rank}").write_text(f"{rank} of {os.environ['WORLD_SIZE']} by {signal.Signals(number).name}")
    sys.exit(85)
signal.signal(signal.SIGUSR1, stop)
(here / f"began{rank}").touch()
time.sleep(120)
"""
# In place of `python`: the real one, with another program where hmgan's training would be.
PYTHON = """#!/usr/bin/env bash
words=()
for word in "$@"; do
    if [ "$word" = hmgan ]; then words+=(waiting_rank); else words+=("$word"); fi
done
exec {python} "${{words[@]}}"
"""


def test_a_schedulers_signal_goes_on_to_the_ranks_and_asks_for_a_restart_once_they_have_saved(tmp_path):
    (tmp_path / "waiting_rank.py").write_text(RANK)
    (tmp_path / "python").write_text(PYTHON.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHON": str(tmp_path / "python"), "NODES": "1", "GPUS": "2"}
    torchrun = subprocess.Popen(["bash", str(launch_file("torchrun.sh")), str(tmp_path)], env=environment)
    try:
        deadline = time.monotonic() + 120
        while not all((tmp_path / f"began{rank}").exists() for rank in (0, 1)):
            assert torchrun.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        torchrun.send_signal(signal.SIGUSR1)
        assert torchrun.wait(timeout=60) == REQUEUE
    finally:
        torchrun.kill()
    for rank in (0, 1):
        assert (tmp_path / f"saved{rank}").read_text() == f"{rank} of 2 by SIGUSR1"
