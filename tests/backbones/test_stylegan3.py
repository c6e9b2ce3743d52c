"""StyleGAN3's generator, its plan and its filters, against slow ones."""

from __future__ import annotations

import math

import pytest
import torch
from importers.envelopes import stirred

from backbones import naive_styled as naive
from backbones.test_stylegan2 import close, doubles
from hmgan import components
from hmgan.backbones import stylegan3_plan
from hmgan.errors import UserError

SMALL = {"resolution": 16, "channel_max": 6, "z_dim": 7, "w_dim": 8}


def tables(kind="t"):
    return stylegan3_plan.tables(16, kind, *{"t": (32768, 6), "r": (65536, 6)}[kind])


def slow(network, ws, kind="t"):
    first, *layers = tables(kind)
    return naive.stylegan3(doubles(network), [w.double() for w in ws], first, layers)


@pytest.mark.parametrize("kind", ["t", "r"])
@pytest.mark.parametrize("psi", [1.0, 0.6])
def test_images_and_layers_are_those_of_the_slow_network(kind, psi):
    network = stirred("backbone", "stylegan3", **SMALL, kind=kind)
    drawn = network.latents(range(3))
    state = doubles(network)
    ws = naive.truncated(state, naive.mapped(state, drawn.z.double(), 2), 16, psi)
    wanted, features = slow(network, ws, kind)
    error = network(drawn, truncation=psi).image.double() - wanted
    assert float(error.std()) < 1e-5 * float(wanted.std())
    network, drawn = network.double(), drawn._replace(z=drawn.z.double())
    out = network(drawn, truncation=psi)
    close(out.image, wanted, 1e-11)
    assert len(out.features) == len(network.widths) == len(network.maps())
    for ours, theirs in zip(out.features, features, strict=True):
        close(ours, theirs, 1e-11)


def test_the_users_transform_turns_and_moves_what_is_drawn():
    network = stirred("backbone", "stylegan3", **SMALL)
    drawn = network.latents(range(2))
    plain = network(drawn).image
    network.synthesis.input.transform.copy_(torch.tensor([[0.8, -0.6, 0.1], [0.6, 0.8, -0.2], [0.0, 0.0, 1.0]]))
    turned = network(drawn).image
    close(turned, slow(network, network.styles(drawn))[0], 1e-5)
    assert float((turned - plain).std()) > 0.1 * float(plain.std())


@pytest.mark.parametrize("kind", ["t", "r"])
def test_layers_read_from_a_table_are_the_planned_ones(kind):
    planned = stirred("backbone", "stylegan3", **SMALL, kind=kind)
    read = components.build("backbone", "stylegan3", resolution=16, z_dim=7, w_dim=8, layers=tables(kind)).eval()
    read.load_state_dict(planned.state_dict())
    drawn = planned.latents(range(2))
    with torch.no_grad():
        assert torch.equal(read(drawn).image, planned(drawn).image)
    assert read.maps() == planned.maps()


def test_a_table_of_layers_may_be_of_any_depth_and_shape():
    first, *layers = tables()
    layers = [layer for i, layer in enumerate(layers) if i not in (1, 2)]  # the first three are alike
    planned = stirred("backbone", "stylegan3", resolution=16, z_dim=7, w_dim=8, layers=[first, *layers])
    for key, filter_n in planned.named_buffers():
        if key.endswith("_filter"):
            filter_n.copy_(torch.rand_like(filter_n) / len(filter_n))
    drawn = planned.latents(range(2))
    wanted, _ = naive.stylegan3(doubles(planned), [w.double() for w in planned.styles(drawn)], first, layers)
    close(planned(drawn).image, wanted, 1e-5)


def test_a_table_that_is_no_layer_is_refused():
    first, layer, *_ = tables()
    with pytest.raises(UserError, match=r"^backbone\.layers: L0_36_6 got an unexpected .*'taps'; import"):
        components.build("backbone", "stylegan3", resolution=16, layers=[first, {**layer, "taps": 3}])


def test_the_plan_is_the_published_one():
    # Names, and so sizes and channels, of the public 256 px configurations.
    names = {
        kind: [layer["name"] for layer in stylegan3_plan.tables(256, kind, *stylegan3_plan.BASES[kind])[1:]]
        for kind in ("t", "r")
    }
    assert names["t"] == [
        "L0_36_512", "L1_36_512", "L2_36_512", "L3_52_512", "L4_52_512", "L5_84_512", "L6_84_512", "L7_148_512",
        "L8_148_512", "L9_148_362", "L10_276_256", "L11_276_181", "L12_276_128", "L13_256_128", "L14_256_3",
    ]  # fmt: skip
    assert names["r"][9:12] == ["L9_148_724", "L10_276_512", "L11_276_362"]


def test_filters_pass_what_is_below_the_cutoff_and_stop_what_is_above_the_band():
    band = stylegan3_plan.Band(cutoff=8.0, half_width=5.0, rate=32, size=52, channels=1)
    taps = stylegan3_plan.low_pass(24, band, 64).double()
    at = torch.arange(24).double()

    def response(frequency):
        return abs(
            sum(
                complex(math.cos(a), -math.sin(a)) * t
                for a, t in zip((2 * math.pi * frequency / 64 * at).tolist(), taps.tolist(), strict=True)
            )
        )

    assert response(0) == pytest.approx(1)
    assert response(8) == pytest.approx(0.5, abs=0.02)
    assert response(8 + 2 * 5) < 0.01
    torch.testing.assert_close(taps, taps.flip(0))


def test_a_radial_filter_is_the_same_in_all_directions():
    band = stylegan3_plan.Band(cutoff=8.0, half_width=5.0, rate=32, size=52, channels=1)
    filter_nn = stylegan3_plan.radial_low_pass(12, band, 64)
    assert float(filter_nn.sum()) == pytest.approx(1)
    torch.testing.assert_close(filter_nn, filter_nn.T)
    torch.testing.assert_close(filter_nn, filter_nn.flip(0))
    assert int(torch.linalg.matrix_rank(filter_nn.double(), rtol=1e-4)) > 1  # no outer product


def test_a_sample_does_not_depend_on_its_batch():
    network = stirred("backbone", "stylegan3", **SMALL).double()
    drawn = network.latents(range(3))
    alone = network.latents([2])
    torch.testing.assert_close(
        network(drawn._replace(z=drawn.z.double())).image[2:],
        network(alone._replace(z=alone.z.double())).image,
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_training_pass_moves_the_running_magnitudes():
    network = stirred("backbone", "stylegan3", **SMALL).train().requires_grad_(True)
    layer = network.synthesis.L0_36_6
    seen = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().square().mean()))
    network(network.latents(range(2)))
    torch.testing.assert_close(layer.magnitude_ema, 0.7 + 0.001 * (seen[0] - 0.7))
    network.eval()(network.latents(range(2)))
    torch.testing.assert_close(layer.magnitude_ema, 0.7 + 0.001 * (seen[0] - 0.7))
