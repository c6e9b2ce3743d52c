"""DiffAugment against a loop over pixels; it is differentiable twice, and a sample's changes are its key's."""

from __future__ import annotations

import pytest
import tiny
import torch
from naive_diffaugment import augment

from hmgan import rng
from hmgan.augment.diffaugment import DiffAugment
from hmgan.config.settings import Choice
from hmgan.train import rundir

KEYS = rng.keys(0, "test", 0, 12)


def images(batch=12, size=8):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", [8, 9, 16])
def test_it_equals_the_loop_over_pixels(size):
    x = images(size=size)
    naive = torch.stack([augment(i, u) for i, u in zip(x, rng.uniform_rows(KEYS, 7).double(), strict=True)])
    torch.testing.assert_close(DiffAugment()(x, KEYS), naive)


def test_a_samples_changes_depend_on_its_key_alone():
    x = images()
    whole = DiffAugment()(x, KEYS)
    torch.testing.assert_close(DiffAugment()(x[5:9], KEYS[5:9]), whole[5:9])
    assert not torch.allclose(DiffAugment()(x, rng.keys(0, "other", 0, 12)), whole)


def test_gradients_reach_the_images_to_second_order():
    x = images(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: DiffAugment()(x, KEYS[:2]), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: DiffAugment()(x, KEYS[:2]).square(), x, fast_mode=True)


def test_all_of_it_happens():
    x = torch.ones(200, 3, 16, 16, dtype=torch.float64)
    out = DiffAugment()(x, rng.keys(0, "many", 0, 200))
    blank = (out == 0).all(1).double().mean((1, 2))
    assert blank.min() >= 1 / 16  # a corner of the cutout, at least
    assert blank.max() <= 1 / 4 + 2 / 8  # all of it, and two strips moved in
    assert out.amax((1, 2, 3)).min() < 0.6
    assert out.amax((1, 2, 3)).max() > 1.4


def test_aug_names_what_the_discriminator_sees_images_through(shards, source, tmp_path):
    where = ("--data", shards, "--source", source, "--outdir", tmp_path)
    settings = tiny.options(train__batch=4, train__trackers="[]")
    assert tiny.command("train", "hyper-mod-b", *where, *settings, "--kimg", 0.004, "--aug", "diffaugment") == 0
    (folder,) = tmp_path.iterdir()
    assert rundir.read_config(folder).augment == Choice(name="diffaugment")


def test_a_wrong_augmentation_shows_the_nearest(tmp_path, capsys):
    assert tiny.command("train", "hyper-mod-b", "--aug", "difaugment", "--outdir", tmp_path) == 2
    assert "no augment named 'difaugment'; did you mean 'diffaugment'? known: " in capsys.readouterr().err
