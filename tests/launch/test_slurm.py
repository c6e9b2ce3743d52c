"""The SLURM script, with stand-ins for srun and scontrol: who each rank is, and when the job goes back to the queue."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
import stubs

from hmgan.files import launch_file


@pytest.fixture
def start(tmp_path):
    """Starts the script as SLURM would on the first of two machines."""
    stubs.write(tmp_path)
    started = []

    def begin(**environment):
        slurm = {"SLURM_JOB_ID": "70001", "SLURM_JOB_NODELIST": "gpu"}
        own = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHON": str(tmp_path / "rank")}
        command = ["bash", str(launch_file("slurm.sbatch")), "train", "hyper-mod-b", "--data", "a b"]
        job = subprocess.Popen(
            command, env={**os.environ, **slurm, **own, **environment}, stdout=subprocess.PIPE, text=True
        )
        started.append(job)
        return job

    yield begin
    for job in started:
        job.kill()


def requeued(folder):
    path = folder / "asked"
    return path.read_text() if path.exists() else ""


def test_every_rank_knows_its_place_and_gets_every_word(start, tmp_path):
    job = start(CODE="0")
    job.communicate(timeout=60)
    assert job.returncode == 0
    for rank in (0, 1):
        told = (tmp_path / f"rank{rank}").read_text()
        # 10000 and the rest of 70001 by 20000
        assert (
            told == f"rank {rank} of 2, here {rank}, first machine gpu-1:20001: -m hmgan train hyper-mod-b --data a b\n"
        )
    assert requeued(tmp_path) == ""


@pytest.mark.parametrize(("code", "again"), [(85, "requeue 70001\n"), (1, ""), (2, "")])
def test_the_job_goes_back_to_the_queue_only_when_the_ranks_say_that_they_have_saved(code, again, start, tmp_path):
    job = start(CODE=str(code))
    job.communicate(timeout=60)
    assert job.returncode == code
    assert requeued(tmp_path) == again


def test_a_task_of_an_array_has_its_number_as_seed_and_goes_back_to_the_queue_without_the_others(start, tmp_path):
    job = start(CODE="85", SLURM_ARRAY_JOB_ID="70001", SLURM_ARRAY_TASK_ID="3")
    job.communicate(timeout=60)
    assert job.returncode == 85
    assert (tmp_path / "rank1").read_text().endswith(" train hyper-mod-b --data a b --seed 3\n")
    assert requeued(tmp_path) == "requeue 70001_3\n"


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize(("code", "again"), [(85, "requeue 70001\n"), (143, "requeue 70001\n"), (0, "")])
def test_a_signal_reaches_the_ranks_and_the_job_goes_back_unless_it_was_finished(sent, code, again, start, tmp_path):
    job = start(CODE=str(code), ON="signal")
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"rank{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(sent)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == code
    assert {"rank 0 had USR1", "rank 1 had USR1"} <= set(said.splitlines())
    assert requeued(tmp_path) == again
