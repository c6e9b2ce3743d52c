"""`python scripts/tableN.py`: the part of a study that a table of the paper needs, and the table."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from hmgan.evaluation import generator_scores
from hmgan.study import rescoring, run, scores
from hmgan.study.plan import cells as planned
from hmgan.study.plan import load_study

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(number, *arguments):
    """`python scripts/tableN.py --study tiny ARGUMENTS` in this process; its exit code."""
    path = str(SCRIPTS / f"table{number}.py")
    with patch.object(sys, "argv", [path, "--study", "tiny", *map(str, arguments)]), pytest.raises(SystemExit) as end:
        runpy.run_path(path, run_name="__main__")
    return end.value.code or 0


def lines(text):
    """The tables of a Markdown text, cell by cell."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(
    ("number", "columns"),
    [
        (2, ["row", "FD-squeezenet ↓", "KD-squeezenet ↓", "paper mFID", "paper mKID x100", "trained", "kimg"]),
        (4, ["row", "insects FD-squeezenet ↓", "paper mFID"]),
        (5, ["row", "FD-squeezenet ↓", "KD-squeezenet ↓", "paper mFID", "paper mKID x100", "trained", "kimg"]),
    ],
)
def test_a_table_of_a_finished_study_is_printed_and_kept_and_nothing_is_run(
    number, columns, whole, in_process, capsys, monkeypatch
):
    monkeypatch.setattr(run, "study_report", lambda *given: None)  # it is there already
    assert script(number, "--outdir", whole) == 0
    assert in_process == []
    said, kept = capsys.readouterr().out, (whole / f"table{number}.md").read_text()
    assert kept in said
    assert kept.startswith(f"# Table {number}: ")
    head, _rule, *rows = lines(kept)
    assert head[: len(columns)] == columns
    assert [row[0] for row in rows[:3]] == ["table", "hyper", "other"]
    report = lines((whole / "REPORT.md").read_text())
    assert all(any(row[0] == other[0] and row[1] in other for other in report) for row in rows[:3])
    assert ("recall-k5" in kept) == (number == 5)


def test_path_lengths_are_measured_once_per_cell_and_stand_in_the_report(whole, in_process, capsys, monkeypatch):
    monkeypatch.setattr(generator_scores, "PATHS", 4)  # pairs
    assert script(3, "--outdir", whole) == 0
    assert in_process == []
    captured = capsys.readouterr()
    assert captured.err.count("path lengths of insects/") == 4
    lengths = {}
    for path in sorted(whole.glob("cells/insects/hyper/seed*/paths.jsonl")):
        full, end = (json.loads(line) for line in path.read_text().splitlines())
        assert full["protocol"].startswith("4 pairs, epsilon 0.0001, t = U(0,1)")
        lengths[path.parent.name] = full["value"]
        assert end["metric"] == "path-end-squeezenet-layers"
    kept = (whole / "table3.md").read_text()
    assert kept in captured.out
    head, _rule, *rows = lines(kept)
    assert head == ["row", "path-full-squeezenet-layers ↓", "path-end-squeezenet-layers ↓"]
    assert [row[0] for row in rows] == ["table", "hyper"]
    shown = float(rows[1][1].split(" ± ")[0].replace(",", ""))
    assert shown == pytest.approx(sum(lengths.values()) / 2, rel=0.05)
    text = (whole / "REPORT.md").read_text()
    assert rows[1] in lines(text)
    assert "insects, path-end-squeezenet-layers: 4 pairs" in text
    cells = planned(load_study("tiny"))
    assert "path-full-squeezenet-layers" not in scores.metrics(scores.results(cells, whole))
    assert not any(rescoring.lacks_paths(cell, cell.folder(whole)) for cell in cells)


def test_a_table_says_what_is_missing_and_runs_it(study, in_process, tmp_path, capsys):
    study(("seeds = [0, 1]", "seeds = [0]"), ('metrics = ["fd", "kd", "prdc"]', 'metrics = ["fd"]'))
    assert script(2, "--outdir", tmp_path / "s", "--report-only") == 0
    assert in_process == []
    assert "0 of the 2 trainings are finished" in capsys.readouterr().out
    assert "| table | 61.84 | 3.75 | missing |" in (tmp_path / "s" / "table2.md").read_text()
    assert script(2, "--outdir", tmp_path / "s") == 0
    assert in_process == ["insects/table/seed0", "insects/hyper/seed0"]
    kept = (tmp_path / "s" / "table2.md").read_text()
    assert "All of them are finished." in kept
    assert "missing" not in kept


def test_a_table_of_some_seeds_trains_and_counts_those_alone(study, in_process, tmp_path):
    study(('metrics = ["fd", "kd", "prdc"]', 'metrics = ["fd"]'))
    assert script(2, "--outdir", tmp_path / "s", "--seeds", "1") == 0
    assert in_process == ["insects/table/seed1", "insects/hyper/seed1"]
    kept = (tmp_path / "s" / "table2.md").read_text()
    assert "2 methods on 1 target (insects) with 1 seed each" in kept
    assert "All of them are finished." in kept


def test_baselines_without_classes_have_a_study_and_a_table_of_their_own(study, in_process, tmp_path):
    study(
        ("seeds = [0, 1]", "seeds = [0]"),
        ('metrics = ["fd", "kd", "prdc"]', 'metrics = ["fd", "kd"]'),
        ('[figures]\nparts = "hyper"\nbetween = ["table", "hyper"]\nstyles = "hyper"\n', ""),
        ('experiment = "gan-memory"', 'experiment = "transfergan"'),
        ('experiment = "hyper-mod-b"', 'experiment = "freezed-k1"\nset = ["task.freeze=[\'from_rgb\']"]'),
    )
    assert script(1, "--outdir", tmp_path / "s") == 0
    kept = (tmp_path / "s" / "table1.md").read_text()
    assert "**Mean KD-squeezenet**" in kept
    assert [row[0] for row in lines(kept)[2:4]] == ["table", "hyper"]
    text = (tmp_path / "s" / "REPORT.md").read_text()
    assert "Real images." in text
    assert "a row per class" not in text


def test_a_table_that_the_study_cannot_fill_is_refused_in_a_line(study, tmp_path, capsys):
    study(('metrics = ["fd", "kd", "prdc"]', 'metrics = ["fd"]'), ('between = ["table", "hyper"]\n', ""))
    assert script(5, "--outdir", tmp_path) == 2
    assert capsys.readouterr().err == (
        "error: table 5 shows prdc, and the metrics of study 'tiny' lack it; add it there\n"
    )
    assert script(3, "--outdir", tmp_path) == 2
    assert capsys.readouterr().err == (
        "error: table 3 shows the rows of figures.between, and study 'tiny' has none; name them\n"
    )


def test_a_failed_training_is_shown_and_ends_with_1(study, in_process, tmp_path, source, capsys):
    study((str(source), str(tmp_path / "nowhere")))
    assert script(4, "--outdir", tmp_path / "s") == 1
    assert "failed: insects/table/seed0: no source at " in capsys.readouterr().out
    assert "0 of the 4 trainings are finished" in (tmp_path / "s" / "table4.md").read_text()
