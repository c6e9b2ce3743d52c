"""`scripts/add_class.py` in its smallest form: to its end, stopped and gone on with, and what it says of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCORES = ("FD", "recall-k3", "class-kept")
SCRIPT = Path(__file__).parents[1] / "scripts" / "add_class.py"


def measure(shards, source, outdir, *more):
    plan = ["--source", source, "--outdir", outdir, "--kimg", 0.016, "--added-kimg", 0.008, "--fakes", 8, "--seeds", 0]
    words = [sys.executable, SCRIPT, shards, *plan, *more]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True)


def table(text):
    """The names of its columns, and each row's cells by its name."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[0], {name: cells for name, *cells in rows[1:]}


def trainings(outdir):
    """When each run began."""
    return {path: path.stat().st_mtime_ns for path in outdir.glob("runs/*/*/config.json")}


def test_a_class_left_out_is_added_and_scored_and_what_is_there_is_not_trained_again(shards, source, tmp_path):
    first = measure(shards, source, tmp_path / "a", "--left-out", "bee")
    assert first.returncode == 0, first.stderr
    told = "classes bee and seeds 0; 12 real and 8 fake images of a class; 0.016 kimg, an added class 0.008"
    assert table(first.stdout)[0] == [f"{score}-{net}" for net in ("squeezenet", "judge") for score in SCORES]
    rows = ["trained from the start", "added", "other real images", "one photograph", "three photographs", "the source"]
    assert list(table(first.stdout)[1]) == rows
    assert first.stdout.splitlines()[-1].endswith(told)
    before = trainings(tmp_path / "a")
    assert len(before) == 3  # of all, of the rest, and of the class

    # As if it had been stopped while the class trained.
    shutil.rmtree(tmp_path / "a" / "models" / "bee-alone-seed0")
    for part in ("snapshots", "checkpoints"):
        shutil.rmtree(next((tmp_path / "a" / "runs" / "bee-alone-seed0").iterdir()) / part)
    second = measure(shards, source, tmp_path / "a", "--left-out", "bee")
    assert second.returncode == 0, second.stderr
    assert trainings(tmp_path / "a").keys() == before.keys()
    assert table(second.stdout) == table(first.stdout)
    lines = [json.loads(line) for line in (tmp_path / "a" / "added.jsonl").read_text().splitlines()]
    assert [line["way"] for line in lines] == ["trained from the start", "added"] * 2
    assert lines[:2] == lines[2:]

    other = measure(shards, source, tmp_path / "a", "--left-out", "bee", "--fakes", 9)
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "is another plan" in other.stderr


def test_classes_are_added_one_by_one_on_top_of_each_other(shards, source, tmp_path):
    done = measure(shards, source, tmp_path / "a", "--one-by-one", 2)
    assert done.returncode == 0, done.stderr
    assert list(table(done.stdout)[1])[:2] == ["trained from the start", "added, the last 2 one by one"]
    assert json.loads((tmp_path / "a" / "models" / "cat-2-of-2-seed0" / "config.json").read_text())["classes"] == [
        "ant", "bee", "cat",
    ]  # fmt: skip
