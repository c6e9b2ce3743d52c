"""A folded class is a plain backbone, and draws what the class drew."""

from __future__ import annotations

import pytest
import tiny
import torch
from modulation.naive import stir

from hmgan import components
from hmgan.config.loading import load_experiment
from hmgan.errors import UserError
from hmgan.generators import build
from hmgan.generators.fold import folded
from hmgan.generators.source import load_source

ON_STYLEGAN = [
    ("adafm", "mlp"),
    ("adafm-low-rank", "embedding"),
    ("adain", "one-hot"),
    ("adain-class-only", "mlp"),
    ("cgan-transfer-port", "one-hot"),
    ("scale-shift", "one-hot"),
]


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def generator_of(source, *overrides):
    """In float64, every trained part away from its start; three classes."""
    experiment = load_experiment("hyper-mod-b", (f"source={source}", *overrides))
    generator = build.build(experiment, load_source(str(source)), 3).generator.double().eval()
    stir(generator)
    return generator


def drawn(latents):
    noise = tuple(n.double() for n in latents.noise)
    return latents._replace(z=latents.z.double(), noise=noise, z_mix=latents.z_mix.double())


def assert_folds(generator):
    latents = drawn(generator.latents(range(4), 0.5))
    with torch.no_grad():
        source = generator.source(latents).image
        for label in range(3):
            backbone = folded(generator, label)
            assert type(backbone) is type(generator.source)
            wanted = generator(latents, torch.full((4,), label))
            got = backbone(latents)
            assert (wanted.image - source).abs().max() > 1e-3
            torch.testing.assert_close(got.image, wanted.image, rtol=1e-9, atol=1e-9)
            for ours, theirs in zip(got.features, wanted.features, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert torch.equal(generator.source(latents).image, source)  # the generator is as it was


@pytest.mark.parametrize(("modulation", "class_net"), ON_STYLEGAN)
def test_every_class_of_every_modulation_folds_exactly(modulation, class_net, source):
    extra = ["modulation.clusters=3"] if modulation == "cgan-transfer-port" else []
    assert_folds(generator_of(source, f"modulation={modulation}", f"class_net={class_net}", *extra))


def test_a_source_that_trained_along_folds(source):
    assert_folds(generator_of(source, "modulation.live=true", 'train.source=["*"]'))


def test_a_linear_site_folds(tmp_path):
    assert_folds(generator_of(tiny.write_source(tmp_path / "s", backbone="gan-memory-resnet")))


def test_a_class_that_is_an_input_of_the_mapping_is_refused():
    torch.manual_seed(0)
    backbone = components.build("backbone", "stylegan1", **tiny.BACKBONE, label_dim=4)
    experiment = load_experiment("hyper-mod-s", ())
    generator = build.transfer_generator(experiment, backbone, 3)
    with pytest.raises(UserError, match="the class is an input of this generator's mapping and does not fold"):
        folded(generator, 0)


def test_edits_of_norms_that_hold_statistics_are_refused(tmp_path):
    source = tiny.write_source(tmp_path / "s", backbone="biggan")
    generator = generator_of(source, "modulation=adain")
    with pytest.raises(UserError, match=r"blocks\.0\.norm1 takes edits that do not fold"):
        folded(generator, 0)
