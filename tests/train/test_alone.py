"""One process at a time trains in a run directory, and leaves alone what others write there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import tiny

from hmgan.errors import UserError
from hmgan.train import claims, rundir


@pytest.fixture
def run(shards, source, tmp_path):
    where = ["--data", shards, "--source", source, "--outdir", tmp_path, "--kimg", 0.008, "--batch", 4]
    assert tiny.command("train", "hyper-mod-b", *where, "--set", "train.trackers=[]") == 0
    (folder,) = tmp_path.iterdir()
    return folder


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other(run):
    """Another process, which holds the run."""
    code = (
        "import sys, time; from pathlib import Path; from hmgan.train import claims; claims.take(Path(sys.argv[1])); "
        "print(1, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run / rundir.CLAIMS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        yield process
        process.kill()


@pytest.mark.parametrize("words", [["--kimg", 0.012], []])
def test_a_run_that_another_process_trains_is_refused_and_left_as_it_is(words, run, other, capsys):
    before = files(run)
    assert tiny.command("train", "--resume", run, *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {run} is being trained by another process (")
    assert said.endswith(f"pid {other.pid}); wait for it, or end it")
    assert files(run) == before


def test_the_claim_of_a_process_that_was_killed_is_taken_over(run, other):
    other.kill()
    assert tiny.command("train", "--resume", run, "--kimg", 0.012) == 0
    assert json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["kimg"] == 0.012


def test_a_claim_of_another_machine_is_refused_once_it_beats_and_taken_over_once_it_lapses(tmp_path, monkeypatch):
    path = tmp_path / "000001.json"
    path.write_text(json.dumps({**claims._owner(), "machine": "another", "host": "far", "pid": 7}))

    def at(seconds):
        monkeypatch.setattr(time, "sleep", lambda _: os.utime(path, (time.time() + seconds,) * 2))

    at(5)
    with (
        pytest.raises(UserError, match=r"it is being trained by another process \(far, pid 7\)"),
        claims.alone(tmp_path, "it"),
    ):
        pass
    at(-claims.STALE - 5)
    with claims.alone(tmp_path, "it"):
        assert claims.holder(tmp_path).endswith(f"pid {os.getpid()}")


def test_a_resumed_run_removes_what_a_killed_process_left_and_not_what_a_living_one_writes(run, other):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living, dead = (run / f".picture.png.{pid}.partial" for pid in (other.pid, gone.pid))
    living.touch()
    dead.touch()
    rundir.clear(run)
    assert living.exists()
    assert not dead.exists()
