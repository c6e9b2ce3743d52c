"""Generators with few images and few classes: what they cannot have is told before anything is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from PIL import Image

from hmgan.data.pack.pack import pack
from hmgan.errors import UserError
from hmgan.evaluation import fakes
from hmgan.evaluation.counts import warnings
from hmgan.report.scores import read_lines
from hmgan.study.plan import cells, load_study


def packed(folder, size=8, **counts):
    """Shards of noise with so many images of each class."""
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / "images" / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8))
            image.save(folder / "images" / name / f"{i}.png")
    pack(folder / "images", folder / "shards", name="few")
    return folder / "shards"


def run_of(shards, source, folder, *more):
    words = ["--data", shards, "--source", source, "--outdir", folder / "runs", "--kimg", "0.004", "--batch", "4"]
    assert tiny.command("train", "hyper-mod-b", *words, "--metrics", "0", *tiny.options(train__trackers="[]")) == 0
    return next((folder / "runs").glob("0*"))


def refused(capsys, *words):
    capsys.readouterr()
    assert tiny.command(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.fixture
def undrawn(monkeypatch):
    """Makes drawing a fake a failure of the test."""
    monkeypatch.setattr(fakes, "class_images", lambda *_: pytest.fail("an image was drawn"))


@pytest.mark.parametrize(
    ("dogs", "words", "text"),
    [
        (1, ["--per-class", "8"], "class 'dog' has 1 real image, fd needs 2 or more; "),
        (5, ["--per-class", "8", "--metrics", "kd,prdc"], "class 'dog' has 5 real images, prdc needs 6 or more; "),
        (3, ["--per-class", "8", "--metrics", "leakage"], "class 'dog' has 3 real images, leakage needs 4 or more; "),
        (6, ["--per-class", "2", "--metrics", "prdc"], "--per-class must be 6 or more for prdc, got 2"),
        (6, ["--per-class", "3", "--metrics", "fd,leakage"], "--per-class must be 4 or more for leakage, got 3"),
    ],
)
def test_too_few_for_a_metric_is_told_before_the_first_image(dogs, words, text, source, tmp_path, undrawn, capsys):
    run = run_of(packed(tmp_path, cat=6, dog=dogs), source, tmp_path)
    assert text in refused(capsys, "evaluate", run, *words)
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("counts", "text"),
    [({"cat": 6, "dog": 1}, "class 'dog' has 1 real image, fd needs 2"), ({"cat": 6, "mean": 6}, "named 'mean'")],
)
def test_a_training_that_could_not_be_scored_is_not_begun(counts, text, source, tmp_path, capsys):
    words = ["--data", packed(tmp_path, **counts), "--source", source, "--outdir", tmp_path / "runs", "--batch", "4"]
    err = refused(capsys, "train", "hyper-mod-b", *words, "--metrics", "4")
    assert text in err
    assert ("--metrics 0" in err) is ("needs 2" in text)
    assert not (tmp_path / "runs").exists()


def test_a_study_with_too_few_fakes_for_its_metrics_is_not_begun():
    study = load_study("smoke").model_copy(update={"metrics": ["prdc"], "per_class": 5})
    with pytest.raises(UserError, match=r"evaluation\.per_class must be 6 or more for prdc, got 5"):
        cells(study)


def test_a_walk_between_the_classes_of_one_is_refused(source, tmp_path, capsys):
    run = run_of(packed(tmp_path, cat=6), source, tmp_path)
    err = refused(capsys, "interpolate", "--network", run, "--out", tmp_path / "walk.png")
    assert "a strip needs 2 classes and 1 seed or more, got 1 and 4" in err
    assert not (tmp_path / "walk.png").exists()


def test_the_demo_of_one_class_says_which_option_it_needs_and_ends_with_its_report_by_it(source, tmp_path, capsys):
    shards = packed(tmp_path, cat=6)
    settings = tiny.options(data=shards, source=source, train__kimg=0.004, train__batch=4, evaluation__per_class=0)
    more = tiny.options(train__trackers="[]", evaluation__data=f'"{shards}"')
    demo = ["demo", "--outdir", tmp_path / "demo", *settings, *more]
    refusal = refused(capsys, *demo)
    assert "needs 2 classes or more, got 1; take --set" in refusal
    assert not (tmp_path / "demo").exists()
    assert tiny.command(*demo, *refusal.partition("take ")[2].split()) == 0
    out = capsys.readouterr().out
    assert "report.html" in out
    assert "interpolation.png" not in out


def test_a_line_of_scores_that_was_cut_short_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kimg": 1.0}\n{"kim')
    with pytest.raises(UserError, match=r"metrics.jsonl has a line that is no JSON"):
        read_lines(tmp_path / "metrics.jsonl")


def test_a_generator_is_not_scored_against_images_of_another_size(source, tmp_path, undrawn, capsys):
    run = run_of(packed(tmp_path / "a", cat=4, dog=4), source, tmp_path)
    larger = packed(tmp_path / "b", size=16, cat=4, dog=4)
    wanted = "the data has images of 16 px, the generator draws 8 px"
    assert wanted in refused(capsys, "evaluate", run, "--data", larger, "--per-class", "4")
    assert not (run / "metrics.jsonl").exists()
    words = ["--data", tmp_path / "a" / "shards", "--source", source, "--outdir", tmp_path / "new", "--batch", "4"]
    scored = tiny.options(evaluation__data=f'"{larger}"', evaluation__per_class=4)
    assert wanted in refused(capsys, "train", "hyper-mod-b", *words, *scored)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("metrics", "warned"), [("fd,kd", True), ("kd", False)])
@pytest.mark.parametrize("extractor", ["squeezenet", "judge,squeezenet"])
def test_a_distance_of_fewer_images_than_features_is_warned_of(extractor, metrics, warned, source, tmp_path, capsys):
    run = run_of(packed(tmp_path, cat=4, dog=4), source, tmp_path)
    capsys.readouterr()
    words = ["--per-class", "4", "--metrics", metrics, "--extractor", extractor]
    assert tiny.command("evaluate", run, *words) == 0
    assert ("warning: fd of 4 images of a class in 512 dimensions" in capsys.readouterr().err) is warned


class Counted:
    """Images of which only the counts are asked."""

    counts = (600, 700)


@pytest.mark.parametrize(("per_class", "dim", "warned"), [(600, 512, False), (512, 512, True), (10_000, 2048, True)])
def test_the_count_that_is_enough_is_set_by_the_extractors_width(per_class, dim, warned):
    assert bool(warnings(("fd",), Counted(), per_class, dim)) is warned


@pytest.mark.parametrize(
    ("per_class", "text"), [(8, ""), (7, "spread of 7 images of a class"), (2, "distance of 1 pair")]
)
def test_a_spread_of_few_pairs_is_warned_of(per_class, text):
    said = warnings(("spread",), Counted(), per_class, 512)
    assert len(said) == bool(text)
    assert text in "".join(said)
