"""Tables in the terminal show every metric's name whole, however narrow it is, and pictures have names of pictures."""

from __future__ import annotations

import io

import pytest
import tiny
from rich.console import Console

from hmgan.evaluation import references
from hmgan.evaluation.score import MEAN, Score
from hmgan.evaluation.table import print_tables, references_table

METRICS = ("FD-squeezenet", "KD-subsets-std-inception", "precision-k3-squeezenet", "path-full-squeezenet-layers", "x")


def printed(labels, width, cls="ant"):
    scores = [
        Score(metric, of, 1234.5, 1000, 1000, "squeezenet", "d" * 64, "none")
        for metric in METRICS
        for of in (cls, "mean")
    ]
    console = Console(file=io.StringIO(), width=width)
    print_tables([(label, scores) for label in labels], console)
    return console.file.getvalue()


@pytest.mark.parametrize("labels", [["score"], ["before", "after"]])
@pytest.mark.parametrize("width", [80, 100, 300])
@pytest.mark.parametrize("cls", ["ant", "a class of a very long name indeed " * 4, "x" * 120])
def test_no_metrics_name_is_cut(labels, width, cls):
    text = printed(labels, width, cls)
    for metric in METRICS:
        assert text.count(f"{metric} \N{DOWNWARDS ARROW}") + text.count(f"{metric} \N{UPWARDS ARROW}") == len(labels)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", ["x.foo", "x.jpg", "x", ".png"])
def test_a_picture_of_another_format_is_refused_before_it_is_drawn(name, tmp_path, shards, capsys):
    words = (["interpolate", "--network", "nowhere", "--out"], ["data", "inspect", shards, "--grid"])
    for command in words:
        capsys.readouterr()
        assert tiny.command(*command, tmp_path / name) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "give a name that ends in" in err
        assert ".png" in err.rpartition("ends in")[2]
    assert not list(tmp_path.iterdir())


def test_what_scores_stand_beside_is_whole_in_80_characters():
    metrics = ("FD-squeezenet", "class-kept-reals-squeezenet", "of this model alone")

    def row(*values):
        scored = zip(metrics, values, strict=False)
        return [Score(metric, MEAN, value, 1000, 1000, "squeezenet", "d" * 64, "none") for metric, value in scored]

    rows = {"this model": row(4722.4, 0.58512, 1.0), references.OTHERS: row(694.72, 0.83)}
    rows |= {references.ONE: row(11_700.0), references.THREE: row(9614.2), references.SOURCE: row(21_350.0)}
    console = Console(file=io.StringIO(), width=80)
    console.print(references_table(rows))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    assert [line for line in lines if line] == [
        ["FD-squeezenet ↓", "4,722", "694.7", "11,700", "9,614", "21,350"],
        ["class-kept-reals-squeezenet ↑", "0.5851", "0.83", "", "", ""],
    ]
