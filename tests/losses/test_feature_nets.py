"""Features of SqueezeNet as an objective: raw, at the images' own size, and with a gradient."""

from __future__ import annotations

import math

import torch

from hmgan.losses.feature_nets import SqueezeFeatures, feature_l1
from hmgan.metrics.features import load_squeezenet


def images(seed, side, count=2):
    return 2 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def test_the_distance_is_the_sum_over_layers_of_the_mean_absolute_difference():
    one, other = ([torch.randn(2, c, 3, 3).double() for c in (2, 4)] for _ in range(2))
    naive = 0.0
    for a, b in zip(one, other, strict=True):
        pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
        naive += sum(abs(x - y) for x, y in pairs) / len(pairs)
    assert math.isclose(float(feature_l1(one, other)), naive, rel_tol=1e-12)


def test_it_sees_images_of_0_to_255_at_their_own_size():
    drawn = images(0, 64)
    expected = load_squeezenet().trunk.layers((drawn + 1) * 127.5)
    got = SqueezeFeatures()(drawn)
    assert len(got) == 5
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    larger = SqueezeFeatures()(images(1, 96))
    assert all(a.shape[-1] > b.shape[-1] for a, b in zip(larger, got, strict=True))


def test_smaller_images_are_enlarged_so_that_the_last_layer_sees_more_than_a_point():
    got = SqueezeFeatures(least=64)(images(0, 8))
    assert [each.shape[-1] for each in got] == [each.shape[-1] for each in SqueezeFeatures()(images(0, 64))]
    assert got[-1].shape[-1] > 1


def test_its_gradient_reaches_the_images_and_none_of_its_weights():
    network = SqueezeFeatures()
    drawn = images(0, 8).requires_grad_()
    feature_l1(network(drawn), network(images(1, 8))).backward()
    assert float(drawn.grad.abs().max()) > 0
    assert not any(p.requires_grad for p in network.parameters())
