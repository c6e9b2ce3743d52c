"""The generator computes what the port computes, whatever the resolution, styles and noise."""

from __future__ import annotations

import pytest
import torch
from reference_stylegan1 import generate, noise_maps, port_generator, styles_of

from hmgan import rng
from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.errors import UserError
from hmgan.importers.convert import convert
from hmgan.importers.foreign import ForeignNetwork
from hmgan.importers.stylegan1_port import plan_generator
from hmgan.types import Latents

WIDTHS = (8, 8, 7, 8, 6, 4, 3)
Z = 8


def converted(state, resolution) -> StyleGAN1:
    port = ForeignNetwork("checkpoint", "", state)
    network = convert(plan_generator(port, resolution)).network
    return network.double()


def latents(batch, blocks, crossover=None) -> Latents:
    g = torch.Generator().manual_seed(3)
    z, z_mix = torch.randn(2, batch, Z, generator=g, dtype=torch.float64)
    return Latents(z, noise_maps(batch, blocks), z_mix, torch.tensor(crossover or [blocks] * batch))


@pytest.mark.parametrize("resolution", [4, 8, 16, 64, 128, 256])
def test_image_and_every_blocks_features_equal_the_port(resolution):
    blocks = (resolution // 4).bit_length()
    state = port_generator(WIDTHS[:blocks], Z)
    source = latents(2, blocks)
    ours = converted(state, resolution)(source)
    image, features = generate(state, [styles_of(state, source.z)] * blocks, source.noise)
    torch.testing.assert_close(ours.image, image, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(list(ours.features), features, rtol=1e-9, atol=1e-9)


def test_1024_pixels_equal_the_port():
    state = port_generator((4, 4, 4, 4, 4, 4, 3, 2, 2), Z)
    source = latents(1, 9)
    image, _ = generate(state, [styles_of(state, source.z)] * 9, source.noise)
    torch.testing.assert_close(converted(state, 1024)(source).image, image, rtol=1e-9, atol=1e-9)


def test_float32_equals_the_port_to_1e_5():
    state = port_generator(WIDTHS, 16)
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    noise = noise_maps(2, 7)
    network = converted(state, 256).float()
    ours = network.synthesise([network.mapping(z)] * 7, [n.float() for n in noise]).image
    image, _ = generate(state, [styles_of(state, z)] * 7, noise)
    assert (ours - image).abs().max() < 1e-5 * image.abs().max()


def test_a_port_without_fused_layers_converts_to_the_same_images():
    state = port_generator(WIDTHS, Z, fused=False)
    source = latents(1, 7)
    image, _ = generate(state, [styles_of(state, source.z)] * 7, source.noise)
    torch.testing.assert_close(converted(state, 256)(source).image, image, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("crossover", [1, 2, 3, 4])
def test_style_mixing_switches_at_the_crossover_block(crossover):
    state = port_generator(WIDTHS[:4], Z)
    source = latents(2, 4, [crossover] * 2)
    first, second = styles_of(state, source.z), styles_of(state, source.z_mix)
    image, _ = generate(state, [first] * crossover + [second] * (4 - crossover), source.noise)
    torch.testing.assert_close(converted(state, 32)(source).image, image, rtol=1e-9, atol=1e-9)


def test_each_sample_of_a_batch_mixes_at_its_own_crossover():
    network = converted(port_generator(WIDTHS[:4], Z), 32)
    source = latents(4, 4, [1, 4, 3, 2])
    together = network(source).image
    for i in range(4):
        row = slice(i, i + 1)
        alone = Latents(source.z[row], tuple(n[row] for n in source.noise), source.z_mix[row], source.crossover_B[row])
        torch.testing.assert_close(together[row], network(alone).image, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("truncation", [0.0, 0.7])
def test_truncation_pulls_every_style_towards_the_mean_style(truncation):
    state = port_generator(WIDTHS[:3], Z)
    source = latents(2, 3, [1, 3])
    draws = torch.randn(4096, Z, generator=rng.generator(0))
    mean = styles_of(state, draws).mean(0, keepdim=True)
    first, second = (mean + truncation * (styles_of(state, z) - mean) for z in (source.z, source.z_mix))
    mixed = torch.stack([second[0], first[1]])
    image, _ = generate(state, [first, mixed, mixed], source.noise)
    ours = converted(state, 16)(source, truncation=truncation).image
    torch.testing.assert_close(ours, image, rtol=1e-9, atol=1e-9)


def test_one_noise_map_per_block_is_used_twice():
    state = port_generator(WIDTHS[:3], Z)
    network = converted(state, 16)
    source = latents(1, 3)
    silent = {k: torch.zeros_like(v) if ".2.noise2." in k else v for k, v in state.items()}
    assert not torch.allclose(network(source).image, converted(silent, 16)(source).image)
    style = styles_of(state, source.z)
    for index in range(3):
        noise = [2 * n if i == index else n for i, n in enumerate(source.noise)]
        image, _ = generate(state, [style] * 3, noise)
        torch.testing.assert_close(network.synthesise([style] * 3, noise).image, image, rtol=1e-9, atol=1e-9)


def test_row_i_of_the_latents_is_a_function_of_key_i():
    network = StyleGAN1(resolution=16, channels=[4, 4, 4], z_dim=8, mapping_layers=1)
    batch, alone = network.latents([11, 12, 13], mixing=0.5), network.latents([12], mixing=0.5)
    assert torch.equal(batch.z[1:2], alone.z)
    assert torch.equal(batch.z_mix[1:2], alone.z_mix)
    assert torch.equal(batch.crossover_B[1:2], alone.crossover_B)
    assert all(torch.equal(a[1:2], b) for a, b in zip(batch.noise, alone.noise, strict=True))


def test_mixing_probability_decides_how_many_samples_cross_over():
    network = StyleGAN1(resolution=16, channels=[4, 4, 4], z_dim=8, mapping_layers=1)
    assert set(network.latents(range(50), mixing=0.0).crossover_B.tolist()) == {3}
    assert set(network.latents(range(50), mixing=1.0).crossover_B.tolist()) == {1, 2}


@pytest.mark.parametrize("resolution", [0, 2, 12, 2048])
def test_a_resolution_that_does_not_fit_is_refused(resolution):
    with pytest.raises(UserError, match=f"^resolution must be a power of two from 4 to 1024, got {resolution}$"):
        StyleGAN1(resolution=resolution)


@pytest.mark.parametrize("channels", [[8], [8, 8, 8], [8, 0]])
def test_widths_that_do_not_fit_are_refused(channels):
    with pytest.raises(UserError, match=r"^channels needs 2 positive widths for 8 px \(4 px first\), got \["):
        StyleGAN1(resolution=8, channels=channels)
