"""Strips walk from class to class and hold everything else still."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.adafm import AdaFMHeads
from hmgan.modulation.class_nets import Embedding
from hmgan.modulation.parts_alone import partly
from hmgan.pictures.images import to_uint8
from hmgan.pictures.strips import CELL, PARTS_COLUMNS, chain, interpolation_strip, parts_sheet, style_grid

CLASSES = ("sandal", "bag", "boot")
SIZE = 8  # pixels


@pytest.fixture(scope="module")
def generator() -> TransferGenerator:
    """A small one whose heads are random, so that its classes differ."""
    torch.manual_seed(0)
    source = StyleGAN1(resolution=SIZE, channels=[6, 6], z_dim=8, mapping_layers=1)
    return TransferGenerator(source, Embedding(len(CLASSES), dim=4), AdaFMHeads(source, 4, init="align"))


def cells(strip: Image.Image, rows: int, columns: int) -> np.ndarray:
    """[rows, columns, 3, 8, 8] uint8: what was drawn, below the headings and inside the margins."""
    scale = CELL // SIZE
    pitch = CELL + scale
    assert strip.width == columns * pitch + scale
    sheet = np.asarray(strip)[strip.height - rows * pitch - scale :]
    inside = sheet[:-scale, :-scale].reshape(rows, pitch, columns, pitch, 3)[:, scale:, :, scale:]
    return inside[:, ::scale, :, ::scale].transpose(0, 2, 4, 1, 3)


def pure(generator: TransferGenerator, seed: int, label: int) -> np.ndarray:
    with torch.no_grad():
        return to_uint8(generator(generator.latents([seed]), torch.tensor([label])).image)[0].numpy()


def test_every_stop_of_the_strip_is_the_image_of_its_class(generator):
    seeds, steps = (3, 5), 5  # 11 columns: more than one batch of class vectors
    drawn = cells(interpolation_strip(generator, CLASSES, steps=steps, seeds=seeds), 2, 11)
    for row, seed in enumerate(seeds):
        for label in range(3):
            gap = np.abs(drawn[row, label * steps].astype(int) - pure(generator, seed, label))
            assert gap.max() <= 1  # rounding, where a batch of another size adds up in another order
    assert (drawn[0, 0] != drawn[0, steps]).any()
    assert (drawn[0, 0] != drawn[1, 0]).any()


def test_between_two_classes_the_class_vector_is_on_the_line(generator):
    drawn = cells(interpolation_strip(generator, CLASSES[:2], steps=2, seeds=[3]), 1, 3)
    with torch.no_grad():
        ends = generator.trained["class_net"](torch.tensor([0, 1]))
        edits = generator.edits_of(ends.mean(0, keepdim=True))
        middle = to_uint8(generator.render(generator.latents([3]), edits, torch.tensor([0])).image)[0].numpy()
    assert np.abs(drawn[0, 1].astype(int) - middle).max() <= 1


def test_the_chain_passes_through_every_class_in_straight_lines():
    ends = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    line = chain(ends, 4)
    assert line.shape == (9, 4)
    assert torch.equal(line[::4], ends)
    assert torch.allclose(line[1:5] - line[:4], ((ends[1] - ends[0]) / 4).expand(4, 4), atol=1e-6)
    assert torch.equal(chain(ends, 1), ends)


def test_steps_are_fewer_where_there_are_many_classes(generator):
    assert interpolation_strip(generator, CLASSES, seeds=[0]).width == 17 * (CELL + 8) + 8
    with pytest.raises(ValueError, match="2 classes and 1 seed or more, got 1 and 4"):
        interpolation_strip(generator, CLASSES[:1])
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        interpolation_strip(generator, CLASSES, steps=0)


def test_headings_change_nothing_below_them(generator):
    plain = interpolation_strip(generator, CLASSES, steps=2, seeds=[1])
    odd = interpolation_strip(generator, ("x" * 500, "", "two\nlines"), steps=2, seeds=[1])
    assert plain.size == odd.size
    assert (cells(plain, 1, 5) == cells(odd, 1, 5)).all()
    assert plain.tobytes() != odd.tobytes()


def test_a_column_of_the_style_grid_shares_its_latents(generator):
    sheet = style_grid(generator, CLASSES, seeds=[4, 9])
    again = style_grid(generator, CLASSES, seeds=[4, 9])
    assert sheet.tobytes() == again.tobytes()
    scale, pitch = CELL // SIZE, CELL + 2 * CELL // SIZE
    left = sheet.width - 2 * pitch - 2 * scale
    pixels = np.asarray(sheet)[2 * scale :, left + 2 * scale :].transpose(2, 0, 1)
    for column, seed in enumerate((4, 9)):
        for label in range(3):
            top, start = label * pitch, column * pitch
            cell = pixels[:, top : top + CELL : scale, start : start + CELL : scale]
            assert np.abs(cell.astype(int) - pure(generator, seed, label)).max() <= 1
    with pytest.raises(ValueError, match="needs classes and seeds, got 3 and 0"):
        style_grid(generator, CLASSES, seeds=[])


def test_a_sheet_of_parts_shows_every_part_of_a_class_on_the_same_latents(generator):
    seeds = (4, 9)
    sheet = np.asarray(parts_sheet(generator, CLASSES, seeds=seeds))
    scale, pitch = CELL // SIZE, CELL + CELL // SIZE
    width, gap = 2 * pitch + scale, CELL // 4
    left, top = sheet.shape[1] - 3 * width - 2 * gap + scale, sheet.shape[0] - 5 * pitch
    latents, row_B = generator.latents(seeds), torch.zeros(2).long()
    for label in range(3):
        with torch.no_grad():
            edits, sites = generator.edits(torch.tensor([label])), generator.source.sites()
            parts = [partly(edits, sites, **{part: True}) for part in ("gamma", "beta", "b")]
            images = [generator.source(latents).image, *(generator.render(latents, e, row_B).image for e in parts)]
        expected = [*map(to_uint8, images), torch.tensor(np.stack([pure(generator, seed, label) for seed in seeds]))]
        for row, column in np.ndindex(5, 2):
            y, x = top + row * pitch, left + label * (width + gap) + column * pitch
            drawn = sheet[y : y + CELL : scale, x : x + CELL : scale].transpose(2, 0, 1)
            assert np.abs(drawn.astype(int) - expected[row][column].numpy()).max() <= 1
        assert all((expected[0] != other).any() for other in expected[1:])


def test_a_sheet_of_parts_fits_one_class_and_draws_fewer_seeds_of_many(generator):
    one, few = (parts_sheet(generator, CLASSES[:n]).width for n in (1, 3))
    assert few == one + 2 * (4 * (CELL + 8) + 8 + CELL // 4)
    many = StyleGAN1(resolution=SIZE, channels=[6, 6], z_dim=8, mapping_layers=1)
    heads = TransferGenerator(many, Embedding(15, dim=4), AdaFMHeads(many, 4))
    assert PARTS_COLUMNS == 20
    assert parts_sheet(heads, "abcdefghijklmno").width < 15 * (CELL + 16 + CELL // 4) + 200  # one column each
    with pytest.raises(ValueError, match="needs classes and seeds, got 3 and 0"):
        parts_sheet(generator, CLASSES, seeds=[])


def test_drawing_leaves_no_gradients_and_the_random_state_alone(generator):
    before = torch.get_rng_state()
    interpolation_strip(generator, CLASSES, steps=1, seeds=[0])
    style_grid(generator, CLASSES, seeds=[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in generator.parameters())
