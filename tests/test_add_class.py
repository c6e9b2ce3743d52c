"""`scripts/add_class.py` in its smallest form: to its end, stopped and gone on with, and what it says of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "scripts" / "add_class.py"


def measure(shards, source, outdir, *more):
    plan = ["--source", source, "--outdir", outdir, "--kimg", 0.016, "--added-kimg", 0.008, "--fakes", 4, "--seeds", 0]
    words = [sys.executable, SCRIPT, shards, *plan, *more]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True)


def trainings(outdir):
    """When each run began."""
    return {path: path.stat().st_mtime_ns for path in outdir.glob("runs/*/*/config.json")}


def test_a_class_left_out_is_added_and_scored_and_what_is_there_is_not_trained_again(shards, source, tmp_path):
    first = measure(shards, source, tmp_path / "a", "--left-out", "bee")
    assert first.returncode == 0, first.stderr
    told = "classes bee; seeds 0; 12 real and 4 fake images of a class; 0.016 kimg, an added class 0.008"
    assert [line.split(":")[0] for line in first.stdout.splitlines()[-2:]] == ["whole", "added"]
    assert all(line.endswith(f"mean of 1: {told}") for line in first.stdout.splitlines()[-2:])
    before = trainings(tmp_path / "a")
    assert len(before) == 3  # of all, of the rest, and of the class

    # As if it had been stopped while the class trained.
    shutil.rmtree(tmp_path / "a" / "models" / "bee-alone-seed0")
    for part in ("snapshots", "checkpoints"):
        shutil.rmtree(next((tmp_path / "a" / "runs" / "bee-alone-seed0").iterdir()) / part)
    second = measure(shards, source, tmp_path / "a", "--left-out", "bee")
    assert second.returncode == 0, second.stderr
    assert trainings(tmp_path / "a").keys() == before.keys()
    assert second.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]
    lines = [json.loads(line) for line in (tmp_path / "a" / "added.jsonl").read_text().splitlines()]
    assert [line["way"] for line in lines] == ["whole", "added"] * 2
    assert lines[:2] == lines[2:]

    other = measure(shards, source, tmp_path / "a", "--left-out", "bee", "--fakes", 5)
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "is another plan" in other.stderr


def test_classes_are_added_one_by_one_on_top_of_each_other(shards, source, tmp_path):
    done = measure(shards, source, tmp_path / "a", "--one-by-one", 2)
    assert done.returncode == 0, done.stderr
    ways = [line.split(":")[0] for line in done.stdout.splitlines()[-3:]]
    assert ways == ["whole", "one-by-one-1", "one-by-one-2"]
    assert json.loads((tmp_path / "a" / "models" / "cat-2-of-2-seed0" / "config.json").read_text())["classes"] == [
        "ant", "bee", "cat",
    ]  # fmt: skip
