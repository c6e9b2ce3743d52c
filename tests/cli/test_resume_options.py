"""What is given beside --resume is checked against the run, and what may be left out may be."""

from __future__ import annotations

import json
import os
import shlex
import shutil

import pytest
import tiny
from test_cli import refused, train
from trained import signalled_in

from hmgan.data.pack.pack import pack
from hmgan.train import rundir


def kimg(run):
    return json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["kimg"]


def files(folder):
    """Every file of a run but its lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".claims" not in path.parts]
    return {path: path.read_bytes() for path in paths}


def test_experiment_beside_resume_is_that_of_the_run_or_refused(run, capsys):
    before = files(run)
    got = refused(capsys, "train", "hyper-mod-c", "--resume", run)
    assert got.startswith(f"{run} is a run of ")
    assert got.endswith(", got EXPERIMENT hyper-mod-c, which is another; leave it out")
    assert refused(capsys, "train", "hyper-mod-d", "--resume", run).startswith("no experiment named 'hyper-mod-d'")
    assert files(run) == before
    assert tiny.command("train", "hyper-mod-b", "--resume", run, "--kimg", 0.012) == 0
    assert kimg(run) == 0.012


def test_resume_latest_needs_no_experiment_and_takes_runs_of_its_verb_only(run, shards, source, capsys):
    align = ["align", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", run.parent]
    assert tiny.command(*align, "--kimg", 0.004, "--batch", 4, "--set", "train.trackers=[]") == 0
    assert tiny.command("train", "--resume", "latest", "--outdir", run.parent, "--kimg", 0.012) == 0
    assert kimg(run) == 0.012
    (other,) = set(run.parent.iterdir()) - {run}
    assert kimg(other) == 0.004
    got = refused(capsys, "pretrain", "--resume", "latest", "--outdir", run.parent)
    assert got.startswith(f"no run to resume in {run.parent}")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "hyper-mod-b", "--resume", ""], "--resume"),
        (["train", "hyper-mod-b", "--resume="], "--resume"),
        (["train", "hyper-mod-b", "--outdir", ""], "--outdir"),
        (["evaluate", ""], "evaluate"),
        (["sample", "--network", ""], "--network"),
    ],
)
def test_an_empty_variable_is_a_mistake(words, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *words) == f"{name} got '', an empty value; give one, or leave it out"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["import", "port.model", "\udcff"], ["sample", "fashion-shoes", "--outdir=a\udce9"]])
def test_a_name_that_is_not_utf8_is_a_mistake_for_weights_are_not_found_by_it(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = os.fsencode(words[-1])
    assert refused(capsys, *words) == f"got {got!r}, which is not UTF-8; rename what has this name, and give that"
    assert not list(tmp_path.iterdir())


def test_moved_data_is_taken_where_it_is_the_same(run, source, tmp_path, capsys):
    (tmp_path / "set").rename(tmp_path / "moved")
    pack(tiny.write_images(tmp_path / "others", 3), tmp_path / "other")
    before = files(run)
    for words in (["--data", tmp_path / "other"], ["--data", tmp_path / "nowhere"], []):
        assert "--data" in refused(capsys, "train", "--resume", run, "--kimg", 0.012, *words)
    assert files(run) == before
    assert tiny.command("train", "--resume", run, "--kimg", 0.012, "--data", tmp_path / "moved") == 0
    assert rundir.read_config(run).data.sources == [str(tmp_path / "moved")]
    assert tiny.command("train", "--resume", run, "--kimg", 0.016) == 0
    assert kimg(run) == 0.016


def test_data_that_was_replaced_where_it_lies_is_not_gone_on_with(run, tmp_path, capsys):
    shutil.rmtree(tmp_path / "set")
    pack(tiny.write_images(tmp_path / "others", 3), tmp_path / "set")
    assert "was trained on other images" in refused(capsys, "train", "--resume", run, "--kimg", 0.012)


@pytest.mark.parametrize("verb", ["train", "demo"])
def test_the_stop_line_can_be_pasted_as_it_stands(verb, shards, source, tmp_path, monkeypatch, capsys):
    outdir = tmp_path / "my runs"
    words = [*train(outdir, shards, source, "--kimg", 0.012)]
    if verb == "demo":
        sets = tiny.options(data=shards, source=source, train__batch=4, train__kimg=0.012)
        words = ["demo", "--outdir", outdir, *sets, *tiny.options(train__trackers=[], evaluation__per_class=2)]
    with monkeypatch.context() as patched:
        signalled_in(patched, 1, 2)
        assert tiny.command(*words) == 130
    line = capsys.readouterr().err.splitlines()[-1].partition("; to go on: ")[2]
    command, *rest = shlex.split(line)
    assert (command, rest[0]) == ("hmgan", verb)
    assert tiny.command(*rest) == 0
    (run,) = outdir.iterdir()
    assert kimg(run) == 0.012
    assert (run / "report.html").is_file() == (verb == "demo")


def test_an_experiment_of_the_same_summary_is_told_apart(run, tmp_path, capsys):
    folder = tmp_path / "registry" / "experiments"
    folder.mkdir(parents=True)
    (folder / "twin.toml").write_text('extends = "hyper-mod-b"\n')
    before = files(run)
    got = refused(capsys, "--registry", folder.parent, "train", "twin", "--resume", run)
    assert got == f"{run} is a run of hyper-mod-b, got EXPERIMENT twin, which is another; leave it out"
    assert files(run) == before
    renamed = run.rename(run.with_name("mine"))
    assert tiny.command("train", "hyper-mod-b", "--resume", renamed, "--kimg", 0.012) == 0


def test_moved_images_of_the_scores_are_taken_where_they_are_the_same(shards, source, tmp_path, capsys):
    shutil.copytree(shards, tmp_path / "reals")
    scored = ["--metrics", 6, "--set", f"evaluation.data={tmp_path / 'reals'}"]
    assert tiny.command(*train(tmp_path / "runs", shards, source, "--kimg", 0.008, *scored)) == 0
    (run,) = (tmp_path / "runs").iterdir()
    (tmp_path / "reals").rename(tmp_path / "moved")
    pack(tiny.write_images(tmp_path / "others", 3), tmp_path / "other")
    go_on = ["train", "--resume", run, "--kimg", 0.012, "--set"]
    got = refused(capsys, *go_on, f"evaluation.data={tmp_path / 'other'}")
    assert "was scored against other images" in got
    assert tiny.command(*go_on, f"evaluation.data={tmp_path / 'moved'}") == 0
    assert rundir.read_config(run).evaluation.data == str(tmp_path / "moved")
