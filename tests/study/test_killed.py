"""A study that is killed, process group and all, resumes and ends as if it had not been."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny

TIMES = {"seconds", "sec_per_kimg", "mem_gib", "tflops", "time"}
DEADLINE = 900  # seconds; on a machine at rest it is seconds


def start(registry, outdir, *arguments):
    command = ["--registry", registry, "compare", "tiny", "--outdir", outdir, *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "hmgan", *map(str, command)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, said
    return said


def until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def logged(outdir):
    """Every line of every cell's logs, without times."""
    found = {}
    for name in ("stats.jsonl", "metrics.jsonl"):
        for path in sorted(outdir.rglob(name)):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            kept = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
            found[str(path.relative_to(outdir))] = kept
    return found


def orphans(outdir):
    """Processes that still name the study's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(outdir).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.fixture
def registry(study):
    """Cells of 40 steps, a checkpoint every 10: time enough to be killed in."""
    seldom = (f"train.{key}=0.004" for key in ("snap", "tick"))
    return study(("kimg = 0.016", "kimg = 0.16"), *((old, old.replace("0.004", "0.04")) for old in seldom))


def killed(registry, outdir, kill):
    """Starts the study, and kills it when the second cell has a checkpoint; both cells' folders."""
    process = start(registry, outdir, "--seeds", "0")
    first, second = (outdir / "cells" / "insects" / row / "seed0" for row in ("table", "hyper"))
    until(lambda: list((second / "train" / "checkpoints").glob("[0-9]*")))
    kill(process)
    process.communicate()
    until(lambda: not orphans(outdir))
    assert (first / "done.json").is_file()
    assert not (second / "done.json").exists()
    return first, second


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_study_is_resumed_and_nothing_is_redone_or_lost(registry, in_process, tmp_path, capsys):
    first, second = killed(registry, tmp_path / "killed", kill_group)
    done = (first / "done.json").read_bytes()
    assert tiny.command("compare", "tiny", "--outdir", tmp_path / "killed", "--seeds", "0") == 0
    said = capsys.readouterr().err
    assert "1 of 2 cells are done already" in said
    assert "insects/hyper/seed0: resumes at kimg 0." in said
    assert in_process == ["insects/hyper/seed0"]
    assert (first / "done.json").read_bytes() == done
    assert "resumed" in (second / "train" / "log.txt").read_text()
    assert tiny.command("compare", "tiny", "--outdir", tmp_path / "whole", "--seeds", "0") == 0
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


@pytest.mark.slow
def test_a_cell_ends_with_the_command_that_started_it_and_is_taken_over_at_once(registry, tmp_path):
    killed(registry, tmp_path / "killed", subprocess.Popen.kill)
    said = finish(start(registry, tmp_path / "killed", "--seeds", "0"))
    assert "insects/hyper/seed0: resumes at kimg 0." in said
    assert "insects/table/seed0: " not in said


@pytest.mark.slow
def test_two_processes_at_once_share_the_cells(registry, tmp_path):
    both = [start(registry, tmp_path / "shared") for _ in range(2)]
    said = "".join(finish(process) for process in both)
    for row in ("table", "hyper"):
        for seed in (0, 1):
            assert said.count(f"insects/{row}/seed{seed}: starts") == 1
            assert said.count(f"insects/{row}/seed{seed}: done in") == 1


@pytest.mark.slow
def test_the_smoke_study_takes_two_minutes_of_a_core_and_is_killed_and_resumed_on_the_way(tmp_path):
    def smoke():
        command = [sys.executable, "-m", "hmgan", "compare", "smoke", "--outdir", str(tmp_path / "smoke")]
        return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = smoke()
    second = tmp_path / "smoke" / "cells" / "close" / "hyper-mod-c" / "seed0"
    until(lambda: list((second / "train" / "checkpoints").glob("[0-9]*")))
    lost = sum(sum(each.cpu_times()[:4]) for each in psutil.Process(process.pid).children(recursive=True))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (second / "done.json").exists()
    said, _ = smoke().communicate(timeout=DEADLINE)
    assert b"close/hyper-mod-c/seed0: resumes at kimg 0." in said
    assert b"close/gan-memory/seed0: starts" not in said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of a core, whatever else the machine has to do meanwhile.
    assert lost + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 120
    text = (tmp_path / "smoke" / "REPORT.md").read_text()
    assert "| hyper-mod-c | " in text
    assert "All of them are finished." in text
