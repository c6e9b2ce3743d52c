"""`--workers`: how many cells at once, and what each one's process sees."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import tiny
import torch

from hmgan.errors import UserError
from hmgan.study import cells, run
from hmgan.study.workers import VISIBLE, cores, workers


@pytest.fixture
def gpus(monkeypatch):
    """So many are to be seen."""

    def see(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv(VISIBLE, raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)

    return see


def seen(text):
    return [worker.environment.get(VISIBLE) for worker in workers(text)]


def test_workers_take_the_gpus_in_turn_and_those_on_cores_see_none(gpus):
    gpus(2)
    assert seen("cuda:3,cpu:2") == ["0", "1", "0", "", ""]
    assert seen("3") == ["0", "1", "0"]
    gpus(2, "5,GPU-7")
    assert seen("cuda:3") == ["5", "GPU-7", "5"]
    gpus(0)
    assert seen("2") == ["", ""]


def test_workers_on_cores_share_them_unless_the_environment_says_how_many(gpus, monkeypatch):
    gpus(0)
    threads = workers("cpu:2")[0].environment["OMP_NUM_THREADS"]
    assert int(threads) == max(1, cores() // 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in workers("cpu:2")[0].environment


@pytest.mark.parametrize("text", ["0", "many", "cpu:", "gpu:2", "cpu:2;cuda:1"])
def test_other_texts_are_refused(text, gpus):
    gpus(1)
    with pytest.raises(UserError) as caught:
        workers(text)
    wanted = "a number from 1 to 999, cpu:N or cuda:N, or both joined by a comma"
    assert str(caught.value) == f"--workers wants {wanted}, got {text!r}"


def test_gpus_are_refused_where_there_are_none(gpus):
    gpus(0)
    with pytest.raises(UserError, match="--workers names cuda, and no GPU is to be seen here"):
        workers("cuda:1")


class Sleeper:
    """A cell's process that would take a minute, and trains nothing."""

    def __new__(cls, folder, output, environment):
        program = "import sys, time; time.sleep(60)"
        return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)


def test_the_time_limit_ends_every_worker_and_leaves_its_cell_to_be_resumed(study, tmp_path, monkeypatch, capsys):
    study()
    monkeypatch.setattr(run, "start", Sleeper)
    began = time.monotonic()
    code = tiny.command("compare", "tiny", "--outdir", tmp_path / "s", "--workers", "cpu:3", "--minutes", "0.03")
    assert code == 0
    assert time.monotonic() - began < 30
    said = capsys.readouterr().err
    assert said.count("stopped at kimg 0") == 3
    assert "4 cells are not finished; the same command resumes them" in said
    states = [cells.read(path)["released"] for path in sorted((tmp_path / "s").glob("cells/*/*/*/claims/*.json"))]
    assert states == [True] * 3
    assert "0 of the 4 trainings are finished" in (tmp_path / "s" / "REPORT.md").read_text()


def test_several_workers_run_every_cell_once(study, tmp_path, monkeypatch):
    study()
    started = []

    class Quick:
        """Finished once it is looked at."""

        stdin, returncode = None, 0

        def __init__(self, folder, output, environment):
            started.append((folder.parts[-2:], environment[VISIBLE]))
            (folder / "train").mkdir()
            line = {"kimg": 0.016, "metric": "FD-x", "class": "mean", "value": 1.0}
            (folder / "train" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
            facts = {"trained": {"G": 1, "D": 1}, "minutes": {"train": 1.0}, "kimg": 0.016, "align_kimg": 0.0}
            cells.finish(folder, {**facts, "device": "cpu", "threads": 1, "torch": "2"})
            time.sleep(0.05)

        def poll(self):
            return 0

        def wait(self):
            return 0

    monkeypatch.setattr(run, "start", Quick)
    monkeypatch.setattr(run, "study_report", lambda *arguments: None)
    assert tiny.command("compare", "tiny", "--outdir", tmp_path / "s", "--workers", "cpu:3") == 0
    assert sorted(started) == sorted(((row, f"seed{seed}"), "") for row in ("hyper", "table") for seed in (0, 1))
