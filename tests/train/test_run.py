"""A run directory as users of StyleGAN know it, with all that a run leaves there."""

from __future__ import annotations

import json
import re
import time

import pytest
import tiny
from PIL import Image
from safetensors import safe_open

from hmgan.config.loading import load_experiment, read_experiment
from hmgan.generators.snapshot import load_generator
from hmgan.metrics.features import load_squeezenet
from hmgan.train import rundir
from hmgan.train.log import RunLog


@pytest.fixture(scope="module")
def outdir(shards, source, tmp_path_factory):
    """A transfer of four steps of 500 images: status every kimg, scores and snapshots too."""
    outdir = tmp_path_factory.mktemp("runs")
    where = ["--data", shards, "--source", source, "--outdir", outdir]
    given = ["--batch", 500, "--kimg", 2, "--snap", 1, "--metrics", 2, "--seed", 3, "--gamma", 0.5, "--no-mirror"]
    settings = tiny.options(train__tick=0.5, train__checkpoints=1, r1__every=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HMGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert tiny.command("train", "hyper-mod-b", *where, *given, *settings) == 0
    return outdir


@pytest.fixture
def run(outdir):
    (folder,) = outdir.iterdir()
    return folder


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_directory_is_named_after_experiment_data_resolution_ranks_and_batch(run, shards):
    assert run.name == f"00000-hyper-mod-b-{shards.name}-8-gpus1-batch500"


def test_it_holds_what_users_look_for(run):
    names = {path.name for path in run.iterdir()}
    known = {"config.json", "log.txt", "stats.jsonl", "metrics.jsonl", "references.jsonl", "reals.png"}
    known |= {"fakes_init.png"}
    known |= {"fakes000001.000.png", "fakes000002.000.png", "snapshots", "checkpoints", "tensorboard", ".claims"}
    assert names == known


def test_its_configuration_is_the_resolved_experiment(run, shards, source):
    kept = read_experiment(run / "config.json")
    expected = load_experiment(
        "hyper-mod-b",
        ["train.tick=0.5", "train.checkpoints=1", "r1.every=2", "train.batch=500", "train.kimg=2", "train.snap=1"],
        {
            "data": str(shards),
            "source": str(source),
            "train": {"seed": 3},
            "loader": {"mirror": False},
            "r1": {"gamma": 0.5},
            "evaluation": {"per_class": 2},
        },
    )
    assert kept == expected
    assert json.loads((run / "config.json").read_text())["modulation"]["epsilon"] == 1e-5  # defaults are written out


def test_statistics_have_a_line_per_tick(run):
    lines = rows(run / "stats.jsonl")
    assert [line["kimg"] for line in lines] == [0.5, 1.0, 1.5, 2.0]
    common = {"kimg", "seconds", "sec_per_kimg", "mem_gib", "loss/D", "loss/G", "score/real", "score/fake"}
    assert [line.keys() - common for line in lines] == [{"loss/r1"}, {"tflops"}, {"loss/r1", "tflops"}, {"tflops"}]
    assert all(common <= line.keys() for line in lines)
    assert lines[-1]["seconds"] == pytest.approx(sum(line["sec_per_kimg"] * 0.5 for line in lines), rel=0.5)


def test_the_log_has_status_lines_and_where_everything_is(run):
    log = (run / "log.txt").read_text().splitlines()
    assert log[0] == f"run      {run}"
    assert "batch 500 on 1 x cpu; r1 gamma 0.5 every 2 steps" in log[1]
    status = [line for line in log if line.startswith("kimg ") and " mem " in line]  # not a slow start's first line
    number = r"-?\d+\.\d{3}"
    form = (
        rf"kimg (\S+) +time (?:\d+m )?\d+s +sec/kimg \d+\.\d\d +mem \d+\.\d\d  G {number}  D {number}(  r1 {number})?"
    )
    assert [re.fullmatch(form, line)[1] for line in status] == ["0.5", "1.0", "1.5", "2.0"]
    assert log[-1] == f"finished {run}"


def test_scores_are_lines_with_their_whole_protocol(run):
    lines = rows(run / "metrics.jsonl")
    seen = {(line["kimg"], line["metric"], line["class"]) for line in lines}
    classes = (*tiny.CLASSES, "mean")
    names = ("FD-squeezenet", "KD-squeezenet", "spread-squeezenet")
    assert seen == {(k, m, c) for k in (0, 1, 2) for m in names for c in classes}
    judge = load_squeezenet()
    for line in lines:
        assert line["snapshot"] == f"{line['kimg']:010.3f}"
        total = 3 if line["class"] == "mean" else 1
        assert (line["n_real"], line["n_fake"]) == (12 * total, 2 * total)
        assert (line["extractor"], line["resizer"], line["digest"]) == (judge.name, judge.resizer, judge.digest)
        assert (line["seed"], line["truncation"], len(line["data"])) == (1_000_000, 1.0, 64)
        assert 0 <= time.time() - line["time"] < 3600


def test_pictures_have_a_row_of_eight_per_class(run):
    sizes, pixels = {}, {}
    for name in ("reals.png", "fakes_init.png", "fakes000002.000.png"):
        with Image.open(run / name) as picture:
            sizes[name], pixels[name] = picture.size, picture.tobytes()
    assert len(set(sizes.values())) == 1
    width, height = sizes["reals.png"]
    assert width >= 8 * 64
    assert height >= 3 * 64
    assert len(set(pixels.values())) == 3


def test_snapshots_are_kept_and_checkpoints_pruned(run):
    assert sorted(path.name for path in (run / "snapshots").iterdir()) == ["000001.000", "000002.000"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000004"]
    with safe_open(run / "checkpoints" / "000000004" / "state.safetensors", "pt") as file:
        kept = {name for name in file.keys() if "source" in name}  # noqa: SIM118
    trained = load_generator(run).generator.source.unedited()
    assert kept == {f"{part}source.{name}" for part in ("generator/", "ema/ema_model.") for name in trained}


def test_tensorboard_counts_images_and_shows_the_grids(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = sorted(run.rglob("*tfevents*"))
    assert len(events) == 1
    accumulator = EventAccumulator(str(events[0].parent))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    assert {"loss/D", "loss/G", "loss/r1", "FD-squeezenet/mean", "KD-squeezenet/ant"} <= set(tags)
    scores = {event.step: event.value for event in accumulator.Scalars("FD-squeezenet/mean")}
    lines = rows(run / "metrics.jsonl")
    written = [line for line in lines if (line["metric"], line["class"]) == ("FD-squeezenet", "mean")]
    assert scores == {1000 * line["kimg"]: pytest.approx(line["value"], rel=1e-5) for line in written}
    assert [event.step for event in accumulator.Images("fakes")] == [1000 * line["kimg"] for line in written]


def test_a_second_run_gets_the_next_number(tmp_path, shards, source):
    experiment = tiny.transfer(shards, source)
    (tmp_path / "00007-other").mkdir()
    (tmp_path / "notes").mkdir()
    first = rundir.create(tmp_path, "a", "b", 8, 1, experiment)
    second = rundir.create(tmp_path, "a", "b", 8, 2, experiment)
    assert (first.name, second.name) == ("00008-a-b-8-gpus1-batch4", "00009-a-b-8-gpus2-batch4")
    assert rundir.latest(tmp_path, lambda experiment: True) == second
    assert rundir.read_config(second) == experiment


def test_a_log_without_a_folder_is_silent_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, 1.0) as log:
        log.start(0.0)
        log.say("hello")
        log.score({"kimg": 0})
        assert log.tick(0.5, {"loss/G": 1.5})["loss/G"] == 1.5
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_runs_that_begin_at_the_same_moment_have_a_directory_each(shards, source, tmp_path, monkeypatch):
    experiment = tiny.transfer(shards, source)
    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "iterdir", lambda folder: iter(()))  # neither sees the other's yet
        made = [rundir.create(tmp_path, "mine", "insects", 8, 1, experiment) for _ in range(3)]
    assert [folder.name[:5] for folder in made] == ["00000", "00001", "00002"]
    assert all(rundir.read_config(folder) == experiment for folder in made)
