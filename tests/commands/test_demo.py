"""`hmgan demo`: the whole way from source to report, on the tiny world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny


def test_the_demo_leaves_a_report_with_its_pictures_curves_and_scores(
    tmp_path: Path, source: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny.options(
        source=source,
        data=shards,
        train__kimg=0.016,
        train__batch=4,
        train__snap=0.008,
        train__tick=0.004,
        train__trackers=[],
        evaluation__per_class=6,
    )
    assert tiny.command("demo", "--outdir", tmp_path / "demo", "--seed", 3, *settings) == 0
    (folder,) = (tmp_path / "demo").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"REPORT.md", "report.html", "source.png", "reals.png", "fakes_init.png"} <= names
    assert {"interpolation.png", "styles.png", "stats.jsonl", "metrics.jsonl", "config.json"} <= names
    report = (folder / "REPORT.md").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    means = [line["kimg"] for line in lines if line["class"] == "mean"]
    assert means == [kimg for kimg in (0.0, 0.008, 0.016) for _ in ("FD", "KD", "spread")]
    assert "three photographs" in report
    assert all(name in report for name in (*tiny.CLASSES, "FD-squeezenet", "KD-squeezenet", "--seed 3"))
    assert str(folder / "report.html") in capsys.readouterr().out.replace("\n", "")


def test_a_demo_of_an_experiment_that_is_no_transfer_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tiny.command("demo", "--experiment", "pretrain-fashion-32", "--outdir", tmp_path / "demo")
    assert code == 2
    assert capsys.readouterr().err == (
        "error: hmgan demo wants a transfer experiment, got 'pretrain-fashion-32', a pretraining\n"
    )
    assert not (tmp_path / "demo").exists()
