from __future__ import annotations

import statistics

import pytest
import torch
import torch.nn.functional as F
from modulation.naive import sample, stir

from hmgan.backbones.gan_memory_resnet import GANMemoryResNet, residual_widths
from hmgan.discriminators.gan_memory_resnet import GANMemoryDiscriminator
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.edits import SOURCE
from hmgan.layers.sites import SiteLinear
from hmgan.modulation.adafm import AdaFMHeads
from hmgan.modulation.class_nets import OneHot


def backbone() -> GANMemoryResNet:
    torch.manual_seed(0)
    return GANMemoryResNet(resolution=16, channels=[5, 4, 4], z_dim=6).double().requires_grad_(False)


def drawn(network, count=3):
    latents = network.latents(range(count))
    return latents._replace(z=latents.z.double(), z_mix=latents.z_mix.double())


def transfer(classes: int = 3) -> TransferGenerator:
    source = backbone()
    return TransferGenerator(source, OneHot(classes), AdaFMHeads(source, classes).double())


def render(network, latents, labels):
    v_RE = torch.eye(3, dtype=torch.float64)
    return network.render(latents, network.edits_of(v_RE), torch.tensor(labels))


def by_hand(network, z_BZ, weights):
    """The network from named weights and biases, layer by layer."""

    def conv(name, x):
        weight, bias = weights[name]
        return F.conv2d(F.leaky_relu(x, 0.2), weight, bias, padding=1)

    h = F.linear(z_BZ, *weights["fc"]).view(len(z_BZ), -1, 4, 4)
    for i, block in enumerate(network.blocks):
        if i:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        shortcut = h
        if h.shape[1] != block.conv2.weight.shape[0]:
            shortcut = F.conv2d(h, block.shortcut.weight)
        h = shortcut + 0.1 * conv(f"blocks.{i}.conv2", conv(f"blocks.{i}.conv1", h))
    rgb = network.to_rgb
    return torch.tanh(F.conv2d(F.leaky_relu(h, 0.2), rgb.weight, rgb.bias, padding=3))


def test_it_is_residual_blocks_on_a_linear_layer():
    network = backbone()
    latents = drawn(network)
    weights = {name: (site.weight, site.bias) for name, site in network.sites().items()}
    out = network(latents)
    torch.testing.assert_close(out.image, by_hand(network, latents.z, weights))
    assert [f.shape[1:] for f in out.features] == [(5, 4, 4), (4, 8, 8), (4, 16, 16)]


def test_sites_are_the_linear_layer_and_both_3x3_of_each_block():
    network = backbone()
    both = [f"blocks.{i}.conv{n}" for i in range(3) for n in (1, 2)]
    assert list(network.sites()) == ["fc", *both]
    assert all(site.name == name for name, site in network.sites().items())
    assert not network.norms()


def test_the_originals_widths_are_16_nf_down_to_nf():
    assert residual_widths(256, None) == (1024, 1024, 512, 256, 128, 64, 64)
    with pytest.raises(UserError, match=r"^channels needs 3 positive widths for 16 px \(4 px first\), got \[5\]$"):
        GANMemoryResNet(resolution=16, channels=[5])


def test_modulation_of_the_linear_layer_and_the_kernels_follows_the_paper():
    """W_hat = gamma * (W - mu) / sigma + beta: per row over its inputs, and per kernel over its taps."""
    network = transfer()
    stir(network.trained)
    latents, modulation = drawn(network), network.trained["modulation"]
    images = render(network, latents, [2, 0, 1]).image
    for b, label in enumerate([2, 0, 1]):
        weights = {}
        for name, heads in zip(modulation.names, modulation.heads, strict=True):
            site = network.source.sites()[name]
            unit = (2 / 3) ** 0.5
            scale, shift, bias = (h.weight[:, label] * unit + h.bias for h in (heads.scale, heads.shift, heads.bias))
            flat = site.weight.flatten(0, 1) if site.weight.dim() == 4 else site.weight
            rows = []
            for row, gamma, beta in zip(flat, scale, shift, strict=True):
                values = row.flatten().tolist()
                mu, sigma = statistics.mean(values), statistics.stdev(values)
                rows.append(gamma * (row - mu) / (sigma + 1e-5) + beta)
            weights[name] = torch.stack(rows).view_as(site.weight), site.bias + bias
        expected = by_hand(network.source, latents.z[b : b + 1], weights)
        torch.testing.assert_close(images[b : b + 1], expected)


def test_a_rows_table_of_the_linear_layer_is_one_number_per_output():
    heads = transfer().trained["modulation"].heads[0]
    assert [len(h.bias) for h in (heads.scale, heads.shift, heads.bias)] == [80, 80, 80]


def test_a_transfer_starts_from_the_source():
    network = transfer()
    latents = drawn(network)
    with torch.no_grad():
        got = render(network, latents, [1, 0, 2]).image
        torch.testing.assert_close(got, network.source(latents).image, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [2, 0, 1, 2], [2, 2, 0]])
def test_a_batch_equals_its_samples_one_by_one(labels):
    network = transfer()
    stir(network.trained)
    latents = drawn(network, len(labels))
    with torch.no_grad():
        batch = render(network, latents, labels)
        for i, label in enumerate(labels):
            alone = render(network, sample(latents, i), [label])
            torch.testing.assert_close(batch.image[i : i + 1], alone.image)


def test_gradients_reach_every_head_and_nothing_of_the_source():
    network = transfer()
    render(network, drawn(network), [0, 1, 2]).image.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.trained.parameters())
    assert all(p.grad is None for p in network.source.parameters())


def test_truncation_shrinks_z():
    network = backbone()
    latents = drawn(network)
    half = latents._replace(z=latents.z / 2)
    assert torch.equal(network(latents, truncation=0.5).image, network(half).image)


def test_a_linear_site_shows_its_rows_and_is_itself_without_an_edit():
    torch.manual_seed(0)
    layer = SiteLinear("s", 3, 2)
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x, SOURCE), x @ layer.weight.T + layer.bias)
    assert layer.site().axes == (1,)


def test_the_discriminator_is_its_own_whatever_else_is_in_the_batch():
    torch.manual_seed(0)
    network = GANMemoryDiscriminator(3, resolution=16, channels=[5, 4, 4]).double()
    images, labels = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    out = network(images, labels)
    assert out.embedding.shape == (4, 80)
    for i in range(4):
        torch.testing.assert_close(network(images[i : i + 1], labels[i : i + 1]).logit, out.logit[i : i + 1])


def test_a_pretrained_head_row_is_copied_to_every_class():
    torch.manual_seed(0)
    single, several = (GANMemoryDiscriminator(n, resolution=8, channels=[5, 4]) for n in (1, 3))
    several.load_source(single.state_dict())
    images = torch.randn(3, 3, 8, 8)
    expected = single(images, torch.zeros(3, dtype=torch.long)).logit
    torch.testing.assert_close(several(images, torch.tensor([0, 1, 2])).logit, expected)
