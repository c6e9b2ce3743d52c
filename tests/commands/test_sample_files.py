"""`hmgan sample` and `interpolate`: formats, latents from files, noise, ways, and what names a model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from PIL import Image
from trained import trained

import hmgan


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("files") / "run")[1]


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_command_draws_what_the_model_samples(run, tmp_path):
    words = ["--outdir", tmp_path, "--seeds", "3", "--class", "bee", "--trunc", "0.7", "--noise", "const"]
    assert tiny.command("sample", run, "--device", "cpu", *words) == 0
    wanted = hmgan.load(run).sample(3, "bee", truncation=0.7, noise="const")[0]
    assert np.array_equal(pixels(tmp_path / "bee-seed0003.png"), wanted)


@pytest.mark.parametrize(("extension", "kind"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_pictures_come_in_the_format_asked_for(source, tmp_path, extension, kind):
    assert tiny.command("sample", source, "--outdir", tmp_path, "--seeds", "1", "--format", extension) == 0
    with Image.open(tmp_path / f"all-seed0001.{extension}") as picture:
        assert picture.format == kind


@pytest.mark.parametrize("name", ["z.npy", "z.npz"])
def test_latents_from_a_file_are_drawn_one_by_one(source, tmp_path, name):
    model = hmgan.load(source)
    z_NZ = np.random.default_rng(0).normal(size=(3, model.z_dim))
    if name.endswith("npy"):
        np.save(tmp_path / name, z_NZ)
    else:
        np.savez(tmp_path / name, z=z_NZ, labels=np.zeros(3))
    words = ["--latents", tmp_path / name, "--outdir", tmp_path, "--noise", "none"]
    assert tiny.command("sample", source, *words) == 0
    drawn = [pixels(tmp_path / f"all-latent{i:04d}.png") for i in range(3)]
    assert len({image.tobytes() for image in drawn}) == 3


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((2, 5)), "latents should be [N, 8], or styles [N, 2, 8], got [2, 5]; they are of another model"),
        (np.zeros(8), "should hold one array of numbers [N, Z] or [N, K, W]"),
        (np.full((1, 8), np.nan), "holds numbers that are not finite"),
        (np.array([[None] * 8]), "holds no latents"),
    ],
)
def test_a_file_without_latents_of_this_model_is_one_line(source, tmp_path, capsys, array, text):
    np.save(tmp_path / "z.npy", array)
    assert tiny.command("sample", source, "--latents", tmp_path / "z.npy", "--outdir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name one model: a run, a folder, a source or OWNER/NAME of a hub; got none"),
        (["fashion-32", "--network", "x"], "got fashion-32 and --network x"),
        (["fashion-32", "--format", "tiff"], "--format is one of png, jpg, webp, got 'tiff'"),
        (["fashion-32", "--device", "cuda:7"], "--device 'cuda:7' is not to be had here"),
        (["fashion-32", "--device", "gpu"], "--device 'gpu' is not to be had here"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, capsys, words, text):
    assert tiny.command("sample", *words, "--outdir", tmp_path / "out") == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4"])
@pytest.mark.parametrize("through", ["classes", "z"])
def test_a_film_has_a_frame_per_step(run, tmp_path, suffix, through):
    if suffix == "mp4":
        pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / f"walk.{suffix}"
    words = ["--through", through, "--seeds", "0,1", "--class", "ant", "--class", "cat", "--steps", "4", "--spherical"]
    assert tiny.command("interpolate", run, *words, "--out", out) == 0
    if suffix == "mp4":
        from imageio_ffmpeg import count_frames_and_secs

        assert count_frames_and_secs(str(out))[0] == 5
        return
    with Image.open(out) as film:
        assert film.n_frames == 5


def test_a_walk_through_both_is_one_row(run, tmp_path):
    words = ["--through", "both", "--seeds", "0,1,0", "--class", "ant", "--class", "cat", "--class", "ant"]
    assert tiny.command("interpolate", run, *words, "--steps", "2", "--out", tmp_path / "both.png") == 0
    assert pixels(tmp_path / "both.png").shape[0] == 64 + 2 * 16


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--out", "walk.avi"], "'walk.avi' has no suffix of a format; give a name that ends in one of .png, .gif"),
        (["--through", "both", "--seeds", "0,1"], "a walk has 2 stations or more: seeds, classes, or as many of both"),
        (["--through", "z", "--seeds", "0"], "a walk has 2 stations or more"),
        (["--class", "dog"], "no class named 'dog'"),
    ],
)
def test_a_way_that_leads_nowhere_is_one_line(run, tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    assert tiny.command("interpolate", run, *words) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
