"""Spectral normalisation without a state, against singular values; attention that begins as nothing."""

from __future__ import annotations

import pytest
import torch

from hmgan.errors import UserError
from hmgan.layers.spectral import Attention, SpectralConv2d, SpectralLinear, attention_at, normalised, spectral_norm


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 4), (7, 3, 3, 3), (1, 6), (6, 1)])
def test_the_norm_is_the_largest_singular_value(shape):
    exact = torch.linalg.matrix_norm(weight(*shape).flatten(1), 2)
    torch.testing.assert_close(spectral_norm(weight(*shape), rounds=300), exact)
    assert 0.9 * exact < spectral_norm(weight(*shape)) <= exact * (1 + 1e-9)


def test_an_orthogonal_start_is_left_as_it_is():
    torch.manual_seed(0)
    layer = SpectralLinear(6, 4)
    torch.testing.assert_close(normalised(layer.weight), layer.weight, rtol=1e-5, atol=1e-5)


def test_its_gradient_is_that_of_the_singular_value():
    matrix = weight(5, 4).requires_grad_()
    (got,) = torch.autograd.grad(spectral_norm(matrix, rounds=300), matrix)
    u, _, v = torch.linalg.svd(matrix.detach())
    torch.testing.assert_close(got, torch.outer(u[:, 0], v[0]))


def test_passes_leave_no_trace():
    torch.manual_seed(0)
    layer = SpectralConv2d(3, 4, 3)
    x = torch.randn(2, 3, 5, 5)
    first = layer(x)
    assert torch.equal(first, layer(x))
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_attention_is_nothing_at_first_and_a_mixture_of_pixels_then():
    torch.manual_seed(0)
    layer = Attention(8)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(layer(x), x)
    layer.weight.data.fill_(0.5)
    query, key, value = (f(x[:1]) for f in (layer.query, layer.key, layer.value))
    key, value = (torch.nn.functional.max_pool2d(t, 2).flatten(2)[0] for t in (key, value))
    mixed = torch.zeros(1, 4, 4, 4)
    for i in range(4):
        for j in range(4):
            share = torch.softmax(query[0, :, i, j] @ key, 0)
            mixed[0, :, i, j] = value @ share
    torch.testing.assert_close(layer(x)[:1], x[:1] + 0.5 * layer.out(mixed))


def test_attention_at_a_resolution_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"^attention must be 0 or one of 8, 16 pixels, got 4$"):
        attention_at(4, [8, 16], [3, 3])
