"""`hmgan centres`: the mean style of what D likes best of a class, and truncation towards it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_export import trained

import hmgan
from hmgan import rng
from hmgan.commands.export import discriminator_of, origin_of
from hmgan.generators.snapshot import newest_snapshot
from hmgan.models.looks import Look


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    run = trained(shards, source, tmp_path_factory.mktemp("centres") / "run")
    assert tiny.command("centres", run, "--draws", "64", "--keep", "0.125") == 0
    return run


def test_a_centre_is_the_mean_style_of_the_draws_that_d_ranks_highest(run):
    kept = load_file(newest_snapshot(run) / "centres.safetensors")
    assert set(kept) == set(tiny.CLASSES)
    origin = origin_of(run)
    generator, (_, judge) = origin.loaded.generator, discriminator_of(origin, 1)
    logits, styles = [], []
    with torch.no_grad():
        for first in (0, 32):  # D's deviation of a minibatch: the same company
            latents = generator.latents([rng.key(i, "centre", 0) for i in range(first, first + 32)])
            images = generator(latents, torch.ones(32, dtype=torch.long)).image
            logits += judge.eval()(images, torch.zeros(32, dtype=torch.long)).logit.tolist()
            styles.append(torch.stack(generator.backbone.styles(latents), 1))
    best = sorted(range(64), key=logits.__getitem__)[-8:]
    torch.testing.assert_close(kept["bee"], torch.cat(styles)[best].mean(0))


def test_truncation_to_nothing_draws_the_centre_alone_and_none_the_image_itself(run):
    model = hmgan.load(run)
    ends = model.sample(range(3), "bee", truncation=0.0, towards="class", noise="none")
    assert np.array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], model.sample(0, "bee", truncation=0.0, noise="none")[0])
    centre = model.centres["bee"][None]
    assert np.array_equal(ends[0], next(model.of_latents(centre, "bee", noise="none")))
    assert np.array_equal(model.sample(4, "bee"), model.sample(4, "bee", towards="class"))


def test_the_centre_of_a_blend_is_the_blend_of_the_centres(run):
    model = hmgan.load(run)
    (drawn,) = model.drawn([Look((1,), ((0, 0.25), (2, 0.75)), 0.0, "none", "class")])
    model.centres = {name: 0.25 * model.centres["ant"] + 0.75 * model.centres["cat"] for name in ("ant", "cat")}
    (wanted,) = model.drawn([Look((2,), ((0, 0.25), (2, 0.75)), 0.0, "none", "class")])
    assert np.abs(drawn.astype(int) - wanted).max() <= 1


def test_centres_go_with_an_export_and_with_a_folded_class(run, tmp_path):
    wanted = hmgan.load(run).sample(range(3), "cat", truncation=0.5, towards="class")
    for name, words, cls in (("whole", (), "cat"), ("cat", ("--class", "cat"), 0)):
        assert tiny.command("export", run, tmp_path / name, *words) == 0
        assert json.loads((tmp_path / name / "config.json").read_text())["centres"] == "centres.safetensors"
        drawn = hmgan.load(tmp_path / name).sample(range(3), cls, truncation=0.5, towards="class")
        assert np.abs(wanted.astype(int) - drawn).max() <= 1


def test_sample_takes_the_centre(run, tmp_path):
    words = ["--trunc", "0.5", "--towards", "class", "--seeds", "2", "--class", "ant", "--outdir", tmp_path]
    assert tiny.command("sample", run, *words) == 0
    from PIL import Image

    wanted = hmgan.load(run).sample(2, "ant", truncation=0.5, towards="class")[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "ant-seed0002.png")), wanted)


def test_where_no_centre_or_no_d_is_left_one_line_says_so(shards, source, tmp_path, capsys):
    bare = trained(shards, source, tmp_path / "bare")
    assert tiny.command("export", bare, tmp_path / "out") == 0
    capsys.readouterr()
    words = ["--trunc", "0.5", "--towards", "class", "--outdir", tmp_path / "pictures"]
    for command, model, text in (
        (["sample", *words], bare, "no centre of class 'ant' is kept; find it with hmgan centres"),
        (["centres"], tmp_path / "out", "has no discriminator, which ranks the images"),
        (["centres"], source, "has no classes to find centres of"),
    ):
        assert tiny.command(command[0], model, *command[1:]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    assert not (tmp_path / "pictures").exists()
