"""`hmgan project`: an image of the model's own is found again, with its class."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from trained import trained

import hmgan
from hmgan.commands.project import opened
from hmgan.errors import UserError
from hmgan.pictures.images import to_uint8


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("projecting") / "run")[1]


def project(run, image, out, *words):
    return tiny.command("project", run, image, "--out", out, *words)


def gap(output):
    return float(output.rpartition("squeezenet-layers ")[2].split()[0])


def test_an_image_that_the_model_drew_is_found_with_its_class(run, tmp_path, capsys):
    model = hmgan.load(run)
    Image.fromarray(model.sample(3, "cat", noise="const")[0]).save(tmp_path / "cat.png")
    assert project(run, tmp_path / "cat.png", tmp_path / "out", "--steps", "0") == 0
    output = capsys.readouterr().out
    assert output.startswith("cat: ")
    assert gap(output) < 0.01
    assert np.load(tmp_path / "out" / "styles.npy").shape == (1, 2, 8)
    with Image.open(tmp_path / "out" / "projected.png") as sheet:
        assert sheet.width == 5 * 64 + 6 * 8


def test_steps_bring_an_unknown_image_nearer(run, tmp_path, capsys):
    Image.fromarray(hmgan.load(run).sample(99, "bee", noise="const")[0]).save(tmp_path / "bee.png")
    gaps = []
    for steps in ("0", "15"):
        assert project(run, tmp_path / "bee.png", tmp_path / steps, "--steps", steps, "--class", "bee") == 0
        gaps.append(gap(capsys.readouterr().out))
    assert gaps[1] < 0.9 * gaps[0]


def test_what_is_no_image_is_one_line(run, tmp_path, capsys):
    (tmp_path / "text.png").write_text("none")
    assert project(run, tmp_path / "text.png", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "is no image that can be read" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["turned", "16 bits", "clear", "cut short", "missing"])
def test_a_picture_is_read_as_pack_reads_it(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    path, grey = tmp_path / "a.png", Image.fromarray(pixels)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 3
        grey.save(path, exif=exif)
        pixels = pixels[::-1, ::-1]
    elif kind == "16 bits":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
    elif kind == "clear":
        Image.fromarray(np.dstack([pixels] * 3 + [np.zeros_like(pixels)])).save(path)
        pixels = np.full_like(pixels, 255)
    else:
        grey.save(path)
        path.write_bytes(path.read_bytes()[:-40])
    if kind == "cut short":
        with pytest.raises(UserError, match="is no image that can be read"):
            opened(path, 8)
    elif kind == "missing":
        with pytest.raises(FileNotFoundError):  # which the command line tells in one line
            opened(tmp_path / "none.png", 8)
    else:
        image = ((opened(path, 8) + 1) * 127.5).round()
        assert (image[0, 0].numpy() == pixels).all()


def test_the_styles_go_back_into_sample_and_the_model_and_draw_the_projection(run, tmp_path):
    model = hmgan.load(run)
    Image.fromarray(model.sample(7, "cat", noise="const")[0]).save(tmp_path / "cat.png")
    assert project(run, tmp_path / "cat.png", tmp_path, "--steps", "3", "--class", "cat") == 0
    with Image.open(tmp_path / "projected.png") as sheet:  # the image, and beside it what is drawn instead
        wanted = np.asarray(sheet.convert("RGB"))[8:72:8, 80:144:8]
    words = ["--latents", tmp_path / "styles.npy", "--class", "cat", "--noise", "const", "--outdir", tmp_path]
    assert tiny.command("sample", run, *words) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "cat-latent0000.png")), wanted)
    styles_NKW = torch.from_numpy(np.load(tmp_path / "styles.npy")).requires_grad_(True)
    image = model(styles_NKW, ["cat"], gradients=True)
    assert np.array_equal(to_uint8(image)[0].permute(1, 2, 0).numpy(), wanted)
    image.mean().backward()
    assert styles_NKW.grad.abs().sum() > 0
