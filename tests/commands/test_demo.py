"""`hmgan demo`: the whole way from source to report, on the tiny world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from PIL import Image

from hmgan.commands.demo import draw_references
from hmgan.config import entries
from hmgan.data.named import open_data
from hmgan.generators.snapshot import of_zoo


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
    assert {"interpolation.png", "styles.png", "photograph.png", "stats.jsonl", "metrics.jsonl", "config.json"} <= names
    report = (folder / "REPORT.md").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    means = [line["kimg"] for line in lines if line["class"] == "mean"]
    assert means == [kimg for kimg in (0.0, 0.008, 0.016) for _ in ("FD", "KD", "spread")]
    assert "three photographs" in report
    assert all(name in report for name in (*tiny.CLASSES, "FD-squeezenet", "KD-squeezenet", "--seed 3"))
    said = capsys.readouterr().out
    assert str(folder / "report.html") in said.replace("\n", "")
    assert f"hmgan sample --network {folder} --class {tiny.CLASSES[0]}" in said
    assert f"hmgan demo --resume {folder} --set train.kimg=0.064" in said
    assert "images along a row should differ" in said
    assert "](photograph.png)" in report
    assert "zoo.png" not in report, "no model of the registry was trained on these images"
    # What the demo's last line offers.
    assert tiny.command("demo", "--resume", folder, "--set", "train.kimg=0.064") == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max(line["kimg"] for line in lines) == 0.064


def test_a_model_of_the_zoo_is_drawn_beside_a_demo_on_the_same_data(tmp_path: Path, source: Path, shards: Path) -> None:
    entry = tmp_path / "registry" / "sources" / "trained.toml"
    entry.parent.mkdir(parents=True)
    entry.write_text(f'summary = "For longer"\nprovenance = "a test"\npath = "{source}"\nzoo = "{shards}"\n')
    entries.add(tmp_path / "registry")
    assert of_zoo(str(shards)) == "trained"
    assert of_zoo("other") is None
    draw_references(open_data(str(shards)), str(shards), tmp_path)
    assert (tmp_path / "zoo.png").is_file()
    with Image.open(tmp_path / "photograph.png") as picture:
        assert picture.width > picture.height


def test_a_demo_of_an_experiment_that_is_no_transfer_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tiny.command("demo", "--experiment", "pretrain-fashion-32", "--outdir", tmp_path / "demo")
    assert code == 2
    assert capsys.readouterr().err == (
        "error: hmgan demo wants a transfer experiment, got 'pretrain-fashion-32', a pretraining\n"
    )
    assert not (tmp_path / "demo").exists()
