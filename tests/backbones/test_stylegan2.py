"""StyleGAN2's generator against a slow one made of its tensors alone."""

from __future__ import annotations

import pytest
import torch
from importers.envelopes import stirred

from backbones import naive_styled as naive
from hmgan import components
from hmgan.errors import UserError


def doubles(network):
    return {k: v.double() for k, v in network.state_dict().items()}


def close(got, wanted, share):
    """Within a share of the image's deviation."""
    assert got.shape == wanted.shape
    assert float((got.double() - wanted).abs().max()) < share * float(wanted.std())


SMALL = {"resolution": 16, "channels": [6, 5, 4], "z_dim": 7, "w_dim": 8, "mapping_layers": 3}
BRANCHES = {
    "skip": {},
    "resnet": {"architecture": "resnet"},
    "orig": {"architecture": "orig"},
    "clamped": {"clamp": 0.8},
    "resnet-clamped": {"architecture": "resnet", "clamp": 0.8},
    "tall": {"height": 16, "width": 8},
    "six-taps": {"filter": [1.0, 2.0, 5.0, 4.0, 3.0, 1.0]},
    "grey": {"channels_out": 1},
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_images_and_blocks_are_those_of_the_slow_network(branch):
    network = stirred("backbone", "stylegan2", **SMALL, **BRANCHES[branch])
    drawn = network.latents(range(3))
    state, options = doubles(network), BRANCHES[branch]
    ws = [naive.mapped(state, drawn.z.double(), 3)] * 6
    wanted, features = naive.stylegan2(
        state,
        ws,
        [n.double() for n in drawn.noise],
        options.get("architecture", "skip"),
        options.get("clamp", 0.0),
        options.get("filter", (1, 3, 3, 1)),
    )
    out = network(drawn)
    close(out.image, wanted, 1e-5)
    for ours, theirs in zip(out.features, features, strict=True):
        close(ours, theirs, 1e-5)
    assert [n.shape[2:] for n in drawn.noise][-1] == out.image.shape[2:]


@pytest.mark.parametrize("noise", ["random", "const", "none"])
def test_noise_is_drawn_or_constant_or_none(noise):
    network = stirred("backbone", "stylegan2", **SMALL, noise=noise)
    drawn, state = network.latents(range(2)), doubles(network)
    constants = [v for k, v in state.items() if k.endswith("noise_const")]
    maps = {"random": drawn.noise, "const": constants, "none": [torch.zeros_like(c) for c in constants]}[noise]
    wanted, _ = naive.stylegan2(state, [naive.mapped(state, drawn.z.double(), 3)] * 6, maps, "skip")
    close(network(drawn).image, wanted, 1e-5)
    again = network.latents([1])
    assert torch.equal(drawn.z[1:], again.z)
    assert all(torch.equal(of_two[1:], alone) for of_two, alone in zip(drawn.noise, again.noise, strict=True))


@pytest.mark.parametrize(("psi", "cutoff"), [(0.5, None), (0.3, 2), (1.5, 5), (0.0, 0)])
def test_the_first_layers_are_pulled_towards_the_kept_mean(psi, cutoff):
    network = stirred("backbone", "stylegan2", **SMALL)
    drawn, state = network.latents(range(2)), doubles(network)
    ws = naive.truncated(state, naive.mapped(state, drawn.z.double(), 3), 6, psi, cutoff)
    wanted, _ = naive.stylegan2(state, ws, [n.double() for n in drawn.noise], "skip")
    close(network.synthesise(network.styles(drawn, psi, cutoff), drawn.noise).image, wanted, 1e-5)


def test_a_mapping_with_classes_sees_z_beside_the_embedding():
    network = stirred("backbone", "stylegan2", **SMALL, label_dim=3)
    drawn, state = network.latents(range(5)), doubles(network)
    classes = drawn.z[:, 7:].double()
    assert bool((classes.sum(1) == 1).all())
    ws = [naive.mapped(state, drawn.z[:, :7].double(), 3, classes)] * 6
    wanted, _ = naive.stylegan2(state, ws, [n.double() for n in drawn.noise], "skip")
    close(network(drawn).image, wanted, 1e-5)


def test_each_sample_mixes_at_its_own_layer():
    network = stirred("backbone", "stylegan2", **SMALL).double()
    drawn = network.latents(range(40), mixing=1.0)
    assert set(drawn.crossover_B.tolist()) == {1, 2, 3, 4, 5}
    assert set(network.latents(range(9)).crossover_B.tolist()) == {6}
    drawn = drawn._replace(z=drawn.z.double(), z_mix=drawn.z_mix.double())
    first, second = network.mapping(drawn.z), network.mapping(drawn.z_mix)
    for i, style in enumerate(network.styles(drawn)):
        for b, crossover in enumerate(drawn.crossover_B.tolist()):
            torch.testing.assert_close(style[b], (second if i >= crossover else first)[b])


def test_training_keeps_the_mean_w_and_a_frozen_source_does_not():
    network = stirred("backbone", "stylegan2", **SMALL)
    before = network.mapping.w_avg.clone()
    network(network.latents(range(4)))
    assert torch.equal(network.mapping.w_avg, before)
    network.requires_grad_(True)
    w = network.mapping(network.latents(range(4)).z)
    torch.testing.assert_close(network.mapping.w_avg, before + 0.005 * (w.mean(0) - before))


def test_the_published_widths_are_the_default():
    with torch.device("meta"):
        small, large = (components.build("backbone", "stylegan2", resolution=r) for r in (256, 1024))
    assert small.widths == (512, 512, 512, 512, 256, 128, 64)
    assert large.widths == (512, 512, 512, 512, 512, 256, 128, 64, 32)


def test_sides_that_do_not_double_up_to_the_resolution_are_refused():
    with pytest.raises(
        UserError, match="height and width must be multiples of 4 up to 4 times resolution 16, got 16 x 6"
    ):
        components.build("backbone", "stylegan2", **SMALL, width=6)
