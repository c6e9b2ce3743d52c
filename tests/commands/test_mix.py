"""`hmgan mix`: what the pictures hold, by the images that `hmgan sample` draws."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from trained import trained

from hmgan.commands.mix import keys
from hmgan.generators.snapshot import load_generator
from hmgan.pictures.images import to_uint8

SCALE = 8  # of 8 px


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("mixing") / "run")[1]


def mix(network, outdir, *arguments):
    return tiny.command("mix", "--network", network, "--outdir", outdir, *arguments)


def opened(path):
    with Image.open(path) as picture:
        return picture.convert("RGB")


def cell(picture, row, column):
    """The image at a place of a grid without names, uint8 [3, 8, 8]."""
    pitch = 8 * SCALE + SCALE
    top, left = SCALE + row * pitch, SCALE + column * pitch
    pixels = np.asarray(picture)[top : top + 8 * SCALE : SCALE, left : left + 8 * SCALE : SCALE]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def close(a, b):
    """Up to one value of rounding: batches of other sizes may sum in another order."""
    return int((a.int() - b.int()).abs().max()) <= 1


def sampled(network, outdir, cls, seed):
    assert tiny.command("sample", "--network", network, "--outdir", outdir, "--seeds", seed, "--class", cls) == 0
    pixels = np.asarray(opened(outdir / f"{cls}-seed{seed:04d}.png"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def test_classes_by_styles_is_one_picture_of_a_row_per_class(run, tmp_path, capsys):
    assert mix(run, tmp_path, "--seeds", "0-4") == 0
    assert mix(run, tmp_path / "two", "--seeds", "0-4", "--class", "bee", "--class", "cat") == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["classes.png"]
    whole, two = (len(np.asarray(opened(folder / "classes.png"))) for folder in (tmp_path, tmp_path / "two"))
    pad, size = 2 * SCALE, 8 * SCALE
    assert whole - two == size + pad
    assert two == 2 * size + 3 * pad
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "classes.png")


def test_a_mixture_has_the_rows_coarse_style_and_noise_and_the_columns_fine_style(run, tmp_path):
    assert mix(run, tmp_path, "--seeds", "3,4", "--with", "5-7", "--class", "bee", "--crossover", "1") == 0
    picture = opened(tmp_path / "bee.png")
    assert picture.size == tuple(SCALE + n * 9 * SCALE for n in (4, 3))
    assert bool((cell(picture, 0, 0) == 255).all())
    assert close(cell(picture, 0, 2), sampled(run, tmp_path / "s", "bee", 6))
    assert close(cell(picture, 2, 0), sampled(run, tmp_path / "s", "bee", 4))
    generator = load_generator(run).generator
    coarse, fine = generator.latents(keys([4])), generator.latents(keys([6]))
    with torch.no_grad():
        edits = generator.edits(torch.tensor([1]))
        edits = edits.__class__(**{**edits.__dict__, "counts": (1,)})
        styles = [generator.source.styles(coarse)[0], generator.source.styles(fine)[1]]
        wanted = to_uint8(generator.source.synthesise(styles, coarse.noise, edits).image)[0]
    assert close(cell(picture, 2, 2), wanted)
    assert not close(cell(picture, 2, 2), cell(picture, 2, 0))


def test_a_seed_mixed_with_itself_is_itself(run, tmp_path):
    assert mix(run, tmp_path, "--seeds", "3", "--with", "3", "--class", "ant") == 0
    picture = opened(tmp_path / "ant.png")
    assert close(cell(picture, 1, 1), cell(picture, 0, 1))
    assert close(cell(picture, 1, 1), cell(picture, 1, 0))


def test_a_source_without_classes_mixes_styles_alone(source, tmp_path, capsys):
    assert mix(source, tmp_path, "--seeds", "0", "--with", "1-2") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["all.png"]
    assert mix(source, tmp_path / "no", "--seeds", "0") == 2
    assert "has no classes to set beside styles; give --with" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_mistakes_are_one_line(run, tmp_path, capsys):
    def refusal(*arguments):
        assert mix(run, tmp_path / "out", *arguments) == 2
        return capsys.readouterr().err

    assert refusal("--crossover", "1").startswith("error: --crossover says where the style of --with begins")
    assert refusal("--with", "1", "--crossover", "2") == (
        "error: --crossover is a block from 1 to 1, whose style is the first fine one, got 2\n"
    )
    assert refusal("--class", "be").startswith("error: no class named 'be'; did you mean 'bee'?")
    assert not (tmp_path / "out").exists()


def test_a_generator_of_one_style_is_refused(tmp_path, capsys):
    network = tiny.write_source(tmp_path / "s", backbone="gan-memory-resnet")
    assert mix(network, tmp_path / "out", "--with", "1") == 2
    assert "this generator's blocks take no second style" in capsys.readouterr().err
