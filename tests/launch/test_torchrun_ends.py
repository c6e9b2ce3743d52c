"""torchrun, as launch/torchrun.sh starts it, ends as its ranks do."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import launched
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousConnectionError

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


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RendezvousClosedError("closed"),
            "the training that this machine was to join is over; look at what its ranks say",
        ),
        (
            RendezvousConnectionError("no store"),
            "the machines no longer meet (no store); start again, first at MASTER_ADDR",
        ),
    ],
)
def test_a_machine_that_does_not_meet_the_others_says_so_in_one_line(error, text, monkeypatch, capsys):
    def failing(arguments):
        raise error

    monkeypatch.setattr(torchrun.run, "main", failing)
    assert torchrun.main([]) == 1
    assert capsys.readouterr().err == f"error: {text}\n"


def test_machines_that_come_and_go_need_a_run_that_resumes_by_itself():
    environment = {**os.environ, "NODES": "1:2", "GPUS": "1", "MASTER_ADDR": "127.0.0.1", "PYTHON": "false"}
    words = ["bash", str(launch_file("torchrun.sh")), "train", "hyper-mod-b"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    told = "error: NODES=1:2 starts ranks anew, which would begin a new run each time; add --resume auto\n"
    assert done.stderr == told
    for resumed in (["--resume", "auto"], ["--resume=auto"]):
        assert subprocess.run([*words, *resumed], env=environment).returncode == 1  # that of `false`


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


def with_rank(folder, program, **more):
    """The environment in which torchrun.sh starts this program in place of hmgan."""
    (folder / "waiting_rank.py").write_text(program)
    paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": paths, "PYTHON": launched.python_of(folder, "waiting_rank"), **more}


def test_a_schedulers_signal_goes_on_to_the_ranks_and_asks_for_a_restart_once_they_have_saved(tmp_path):
    environment = with_rank(tmp_path, RANK, NODES="1", GPUS="2")
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


@pytest.mark.parametrize(("code", "begun"), [(2, 1), pytest.param(3, 2, marks=pytest.mark.slow)])
def test_ranks_start_anew_a_bounded_number_of_times_and_never_after_a_mistake_of_the_user(code, begun, tmp_path):
    failing = f"import sys; open(sys.argv[1], 'a').write('began '); sys.exit({code})"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(launched.free_port()), "PET_LOCAL_ADDR": "127.0.0.1"}
    size = {"NODES": "1:2", "GPUS": "1", "RESTARTS": "1", "PET_RDZV_CONF": "last_call_timeout=1"}
    environment = with_rank(tmp_path, failing, **place, **size)
    words = ["bash", str(launch_file("torchrun.sh")), str(tmp_path / "said"), "--resume", "auto"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "said").read_text() == "began " * begun
