"""What `hmgan.load` gives: images that depend on seed and class alone, walks, mixes, blends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from trained import trained

import hmgan
from hmgan.models.looks import Look, spread
from hmgan.models.walks import slerp


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("model") / "run")[1]


@pytest.fixture
def model(run):
    return hmgan.load(run)


def test_a_seed_draws_the_same_image_alone_in_a_batch_and_in_any_share_of_it(model):
    whole = model.sample(range(6), "bee", truncation=0.7)
    assert whole.shape == (6, 8, 8, 3)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole}) == 6
    for seed in range(6):
        assert np.array_equal(model.sample(seed, "bee", truncation=0.7)[0], whole[seed])
    ranks = [model.sample(range(rank, 6, 2), "bee", truncation=0.7) for rank in range(2)]
    for rank, share in enumerate(ranks):
        assert np.array_equal(share, whole[rank::2])
    mixed = model.sample(range(6), ["ant", "bee", "cat"] * 2, truncation=0.7)
    assert np.array_equal(mixed[1], whole[1])
    assert np.array_equal(mixed[4], whole[4])


def test_the_images_are_those_of_the_generator(model):
    from hmgan.pictures.images import to_uint8

    latents = model.generator.latents([hmgan.models.looks.key_of(3)])
    with torch.no_grad():
        expected = to_uint8(model.generator(latents, torch.tensor([2]), 0.6).image)[0].permute(1, 2, 0).numpy()
    got = model.sample(3, "cat", truncation=0.6)[0]
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_latents_of_ones_own_have_gradients_only_where_they_are_asked_for(model):
    z_NZ = torch.randn(2, model.z_dim, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert not model(z_NZ, ["ant", "cat"]).requires_grad
    image = model(z_NZ, ["ant", "cat"], gradients=True)
    assert image.shape == (2, 3, 8, 8)
    image.square().mean().backward()
    assert bool(z_NZ.grad.abs().sum() > 0)
    assert torch.equal(model(z_NZ, [0, 2]), model(z_NZ, torch.tensor([0, 2])))


def test_noise_is_the_seeds_own_or_one_for_all_or_none(model):
    drawn = {noise: model.sample(range(2), "ant", noise=noise) for noise in ("random", "const", "none")}
    assert len({images.tobytes() for images in drawn.values()}) == 3


def test_a_mix_of_a_seed_with_itself_is_that_seed_and_of_two_is_neither(model):
    alone = model.sample([1, 2], "bee")
    assert np.array_equal(model.mix([1, 2], [1, 2], "bee"), alone)
    assert not np.array_equal(model.mix([1], [2], "bee")[0], alone[0])
    with pytest.raises(ValueError, match=r"^crossover is a block from 1 to 1, got 2$"):
        model.mix([1], [2], crossover=2)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize(("seeds", "classes"), [([4], ["ant", "cat"]), ([4, 5], ["ant"]), ([4, 5], ["ant", "cat"])])
def test_a_walk_begins_and_ends_at_its_stations_and_moves_between(model, seeds, classes, spherical):
    frames = model.interpolate(seeds, classes, steps=3, spherical=spherical)
    ends = model.sample([seeds[0], seeds[-1]], [classes[0], classes[-1]])
    assert len(frames) == 4
    for got, wanted in zip(frames[[0, -1]], ends, strict=True):
        assert np.abs(got.astype(int) - wanted).max() <= 1
    assert all(not np.array_equal(a, b) for a, b in pairwise(frames))


def test_a_slerp_keeps_the_length_that_a_line_loses():
    a, b = torch.eye(2)[:1], torch.eye(2)[1:]
    torch.testing.assert_close(slerp(a, b, 0.5), torch.full((1, 2), 0.5**0.5))
    torch.testing.assert_close(slerp(a, 3 * b, 0.5).norm(), torch.tensor(2.0))
    torch.testing.assert_close(slerp(a, a, 0.5), a)


def test_a_blend_of_one_class_is_that_class_and_of_no_class_the_source(model, source):
    look = Look((3,), ((1, 1.0),))
    assert np.array_equal(next(model.drawn([look])), model.sample(3, "bee")[0])
    half = next(model.drawn([Look((3,), ((0, 0.5), (1, 0.5)))]))
    assert not np.array_equal(half, model.sample(3, "bee")[0])
    assert np.array_equal(next(model.drawn([Look((3,))])), hmgan.load(source).sample(3)[0])
    assert np.array_equal(model.source().sample(3), hmgan.load(source).sample(3))


def test_levels_are_spread_over_the_blocks():
    assert spread((7, 8, 9), 2) == (7, 8)
    assert spread((7, 8, 9), 4) == (7, 7, 8, 9)
    assert spread((7, 8, 9), 7) == (7, 7, 7, 8, 8, 9, 9)
    assert spread((7,), 3) == (7, 7, 7)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.sample([0], "dog"), "no class named 'dog'; known: ant, bee, cat"),
        (lambda m: m.sample([0], 3), "classes are 0 to 2, got 3; or give their names"),
        (lambda m: m.sample([0, 1], ["ant"]), "1 classes for 2 seeds; give one class, or one per seed"),
        (lambda m: m.interpolate([0], ["ant"]), "a walk has 2 stations or more"),
        (lambda m: m.interpolate([0, 1, 2], ["ant", "bee"]), "a walk has 2 stations or more"),
    ],
)
def test_what_is_not_there_is_one_line(model, call, text):
    with pytest.raises(ValueError, match="^" + text.replace(".", r"\.")):
        call(model)


def test_a_source_draws_too_and_knows_one_class(source):
    model = hmgan.load(source)
    assert model.classes == ("all",)
    assert model.sample(range(2), "all").shape == (2, 8, 8, 3)
    assert model.sample([]).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("backbone", ["gan-memory-resnet", "biggan"])
def test_other_backbones_draw_with_and_without_truncation(backbone, tmp_path):
    model = hmgan.load(tiny.write_source(tmp_path / "source", backbone))
    assert len({model.sample(1, truncation=psi).tobytes() for psi in (1.0, 0.5)}) == 2
