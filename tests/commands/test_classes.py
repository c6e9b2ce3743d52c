"""`hmgan classes`: what is added, dropped and renamed, and that the others do not notice."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny
from PIL import Image
from test_export import trained

import hmgan
from hmgan.models.looks import Look

QUICK = ["--kimg", "0.008", "--metrics", "0", *tiny.options(train__batch=4, train__snap=0.008, train__trackers="[]")]
RATE = tiny.options(optimizer__lr=0.1)


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("classes") / "run")


@pytest.fixture(scope="module")
def dogs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "dog"
    folder.mkdir()
    random = np.random.default_rng(5)
    for i in range(12):
        Image.fromarray(random.integers(100, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def add(model, images, out, *words):
    where = ["--out", out, "--outdir", out.parent / "runs"]
    return tiny.command("classes", model, "add", images, *where, *QUICK, *RATE, *words)


@pytest.fixture(scope="module")
def grown(run, dogs, tmp_path_factory):
    out = tmp_path_factory.mktemp("grown") / "four"
    assert add(run, dogs, out, "--start", "bee") == 0
    return out


def test_old_classes_draw_the_very_same_images_and_the_new_one_others(run, grown):
    old, new = hmgan.load(run), hmgan.load(grown)
    assert new.classes == (*tiny.CLASSES, "dog")
    for name in tiny.CLASSES:
        assert np.array_equal(old.sample(range(4), name), new.sample(range(4), name))
    assert not np.array_equal(new.sample(range(4), "dog"), new.sample(range(4), "bee"))


def test_the_added_class_draws_what_its_training_drew(grown):
    (trained_run,) = (grown.parent / "runs").iterdir()
    alone, joined = hmgan.load(trained_run).sample(range(4), "dog"), hmgan.load(grown).sample(range(4), "dog")
    assert np.abs(alone.astype(int) - joined).max() <= 1


def test_a_mixed_batch_draws_each_class_as_alone(grown):
    import torch

    from hmgan.pictures.images import to_uint8

    model = hmgan.load(grown)
    latents = model.generator.latents(range(4))
    with torch.no_grad():
        mixed = to_uint8(model.generator(latents, torch.tensor([3, 0, 3, 1])).image)
        for place, label in enumerate([3, 0, 3, 1]):
            alone = to_uint8(model.generator(model.generator.latents([place]), torch.tensor([label])).image)[0]
            assert int((mixed[place].int() - alone.int()).abs().max()) <= 1


def test_a_blend_lies_between_old_and_new_and_ends_at_both(grown):
    model = hmgan.load(grown)
    half = next(model.drawn([Look((1,), ((0, 0.5), (3, 0.5)))]))
    nearly = next(model.drawn([Look((1,), ((0, 1e-6), (3, 1 - 1e-6)))]))
    assert np.abs(nearly.astype(int) - model.sample(1, "dog")[0]).max() <= 1
    assert not np.array_equal(half, nearly)


def test_another_class_is_added_on_top_of_an_added_one(grown, dogs, tmp_path):
    (tmp_path / "elk").mkdir()
    for path in dogs.iterdir():
        Image.open(path).rotate(90).save(tmp_path / "elk" / path.name)
    assert add(grown, tmp_path / "elk", tmp_path / "five", "--start", "dog") == 0
    before, after = hmgan.load(grown), hmgan.load(tmp_path / "five")
    assert after.classes == (*tiny.CLASSES, "dog", "elk")
    for name in before.classes:
        assert np.array_equal(before.sample(range(2), name), after.sample(range(2), name))


@pytest.mark.parametrize("start", ["nearest", "source"])
def test_a_class_starts_from_the_nearest_or_the_source(run, dogs, tmp_path, start, capsys):
    out = tmp_path / "out"
    assert add(run, dogs, out, "--start", start, "--kimg", "0.004", "--set", "optimizer.lr=1e-9") == 0
    model = hmgan.load(out)
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dog starts from"))
    if start == "source":
        assert said == "dog starts from the source"
        expected = model.source().sample(range(4))
    else:
        expected = model.sample(range(4), said.rpartition(" ")[2])
    assert np.abs(model.sample(range(4), "dog").astype(int) - expected).max() <= 1


def test_a_run_that_was_trained_is_joined_without_training(run, grown, tmp_path):
    (trained_run,) = (grown.parent / "runs").iterdir()
    assert tiny.command("classes", run, "add", trained_run, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (grown / "model.safetensors").read_bytes()


def test_dropped_and_renamed_classes_leave_the_others_as_they_are(run, grown, tmp_path, capsys):
    assert tiny.command("classes", grown, "drop", "ant", "--out", tmp_path / "three") == 0
    assert tiny.command("classes", tmp_path / "three", "rename", "dog", "wolf", "--out", tmp_path / "renamed") == 0
    assert tiny.command("classes", tmp_path / "renamed", "list") == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["bee", "cat", "wolf"]
    whole, left = hmgan.load(grown), hmgan.load(tmp_path / "renamed")
    for before, after in (("bee", "bee"), ("cat", "cat"), ("dog", "wolf")):
        assert np.array_equal(whole.sample(range(3), before), left.sample(range(3), after))


def test_a_dropped_class_leaves_no_numbers_unless_another_starts_from_them(run, grown, tmp_path, capsys):
    from safetensors.torch import load_file

    said = []
    for model, name in ((grown, "ant"), (grown, "bee"), (grown, "dog")):
        assert tiny.command("classes", model, "drop", name, "--out", tmp_path / name) == 0
        said.append(capsys.readouterr().out.splitlines()[-1])
    assert said == [
        "the numbers of ant are gone from the file",
        "the numbers of bee stay in the file: an added class starts from them",
        "the numbers of dog are gone from the file",
    ]
    rows = {name: load_file(tmp_path / name / "model.safetensors") for name in ("ant", "bee", "dog")}
    table = "trained.modulation.base_net.embedding.weight"
    assert [bool(rows[name][table][label].any()) for name, label in (("ant", 0), ("ant", 1), ("bee", 1))] == [0, 1, 1]
    assert not any(x.any() for name, x in rows["dog"].items() if name.startswith("trained.modulation.added.0."))
    for name in ("ant", "bee", "dog"):
        left = hmgan.load(tmp_path / name)
        for cls in left.classes:
            assert np.array_equal(hmgan.load(grown).sample(range(2), cls), left.sample(range(2), cls))


def test_an_added_class_folds_into_a_source(grown, tmp_path):
    assert tiny.command("export", grown, tmp_path / "dog", "--class", "dog") == 0
    folded, joined = hmgan.load(tmp_path / "dog").sample(range(3)), hmgan.load(grown).sample(range(3), "dog")
    assert np.abs(folded.astype(int) - joined).max() <= 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lst"], "no action named 'lst'; did you mean 'list'?"),
        (["drop"], "hmgan classes MODEL drop takes NAME, got none"),
        (["drop", "ant"], "--out names the new folder of what drop makes"),
        (["drop", "owl", "--out", "o"], "no class named 'owl'"),
        (["rename", "ant", "bee", "--out", "o"], "a class is named 'bee' already; the model has ant, bee, cat"),
        (["add", "nowhere", "--out", "o"], "nowhere is no folder; give a folder of images"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    assert tiny.command("classes", run, *words) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_folders_of_the_users_beside_the_new_model_are_left_alone(run, dogs, tmp_path, capsys):
    for name in ("dog-start", "dog-data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
        assert add(run, dogs, tmp_path / "dog") == 2
        assert f"{tmp_path / name} exists already" in capsys.readouterr().err
        (tmp_path / name).rename(tmp_path / f"kept-{name}")
    assert {path.name for path in tmp_path.rglob("*.txt")} == {"notes.txt"}


def test_images_in_a_folder_named_after_the_model_stay(run, dogs, tmp_path):
    shutil.copytree(dogs, tmp_path / "dog-images")
    assert add(run, tmp_path / "dog-images", tmp_path / "dog", "--start", "bee") == 0
    assert len(list((tmp_path / "dog-images").iterdir())) == 12


@pytest.mark.parametrize(
    "words",
    [["--set", "train.batch=3.5"], ["--start", "owl"], ["--experiment", "no-such"], ["--set", "train.kimg=nan"]],
)
def test_a_mistake_leaves_nothing_and_the_next_try_begins_anew(run, dogs, tmp_path, words):
    assert add(run, dogs, tmp_path / "dog", *words) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["train.unedited=true", 'train.source=["mapping"]'])
def test_a_class_that_would_change_what_all_share_is_refused(run, dogs, tmp_path, setting, capsys):
    assert add(run, dogs, tmp_path / "dog", "--set", setting) == 2
    assert "which changes what all classes share" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
