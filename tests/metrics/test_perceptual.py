"""The perceptual distance against loops, and the properties that path lengths rely on."""

import pytest
import torch
from torch import Tensor

from hmgan.metrics.perceptual import SqueezeLayers, load_squeeze_layers, unit_length


@pytest.fixture(scope="module")
def distance() -> SqueezeLayers:
    return load_squeeze_layers(torch.float64)


def textured(n: int, px: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (px, px), mode="bicubic") * 255


def test_it_is_the_sum_over_layers_of_the_mean_squared_difference_of_unit_vectors(distance: SqueezeLayers) -> None:
    a, b = textured(2, 96, 0), textured(2, 96, 1)  # at the network's own side: resizing changes nothing
    expected = torch.zeros(2, dtype=torch.float64)
    for x, y in zip(distance.trunk.layers(a), distance.trunk.layers(b), strict=True):
        height, width = x.shape[2:]
        for i in range(2):
            for h in range(0, height):
                u, v = x[i, :, h], y[i, :, h]
                gap = u / (u.norm(dim=0) + 1e-10) - v / (v.norm(dim=0) + 1e-10)
                expected[i] += gap.square().sum() / (height * width)
    torch.testing.assert_close(distance(a, b), expected, rtol=1e-6, atol=0)
    assert len(distance.layers(a)) == 5


def test_the_last_layer_pools_to_the_extractors_features(distance: SqueezeLayers) -> None:
    a = textured(2, 96)
    torch.testing.assert_close(distance.trunk.layers(a)[-1].mean(dim=(2, 3)), distance.trunk(a))


def test_equal_images_are_at_zero_others_further_the_more_they_differ_and_both_ways_alike(distance) -> None:
    a, noise = textured(3, 32), textured(3, 32, 1) - 127
    assert distance(a, a).abs().max() == 0
    near, far = distance(a, a + 0.05 * noise), distance(a, a + 0.5 * noise)
    assert bool((near > 0).all())
    assert bool((near < far).all())
    assert bool((far < 10).all())
    torch.testing.assert_close(distance(a + noise, a), distance(a, a + noise))


def test_small_differences_count_by_their_square_in_float64(distance: SqueezeLayers) -> None:
    a, step = textured(2, 32), textured(2, 32, 1) - 127
    small, smaller = (distance(a, a + size * step) / size**2 for size in (1e-5, 1e-6))
    torch.testing.assert_close(small, smaller, rtol=1e-2, atol=0)


def test_channels_at_zero_stay_there_and_others_get_length_one() -> None:
    x = torch.zeros(1, 2, 1, 2)
    x[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(unit_length(x)[0, :, 0], torch.tensor([[0.6, 0.0], [0.8, 0.0]]))


def test_its_name_is_not_lpips_and_its_protocol_is_whole(distance: SqueezeLayers) -> None:
    assert distance.name == "squeezenet-layers"
    assert distance.resizer == "bicubic-antialias-96-unclamped"
    assert len(distance.digest) == 64
