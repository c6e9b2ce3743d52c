"""The layers' identities, against torch's own functions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hmgan.layers.edits import SOURCE
from hmgan.layers.equalized import (
    Blur,
    EqualConv2d,
    EqualLinear,
    PixelNorm,
    he_gain,
    instance_norm,
    leaky_relu,
    leaky_relu_by_sign,
    shared_kernels,
)
from hmgan.layers.sites import SiteConv2d


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def sixteen_taps(weight_OIkk):
    """The sum of a kernel's four one-pixel shifts: at stride 2 it does with 16 taps what 9 do on boxed maps."""
    wide = F.pad(weight_OIkk, (1, 1, 1, 1))
    return wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]


def to_third_order(y, x, *parameters):
    """A map's values, its gradient, and the gradients of that gradient's square, as R1 takes them."""
    (first,) = torch.autograd.grad(y.tanh().sum(), x, create_graph=True)
    return y, first, *torch.autograd.grad(first.square().sum() + y.square().sum(), (x, *parameters))


def assert_equal_to_rounding(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14 * float(b.detach().abs().max()))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 8), (16, 10)])
def test_nine_taps_equal_sixteen_on_the_way_down_to_the_second_derivative(height, width):
    conv = EqualConv2d(3, 4, 3, padding=1, down=True).double()
    conv.bias.data.normal_()
    x = normal(2, 3, height, width).requires_grad_()
    slow = F.conv2d(x, sixteen_taps(conv.weight * conv.gain) / 4, conv.bias, stride=2, padding=1)
    parameters = (conv.weight, conv.bias)
    assert_equal_to_rounding(to_third_order(conv(x), x, *parameters), to_third_order(slow, x, *parameters))


@pytest.mark.parametrize("up", [1.0, 0.25])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 6), (8, 4)])
def test_nine_taps_equal_sixteen_on_the_way_up_to_the_second_derivative(up, height, width):
    layer = SiteConv2d("a", 3, 4, up).double()
    layer.bias.data.normal_()
    x = normal(2, 3, height, width).requires_grad_()
    kernel = up * sixteen_taps((layer.weight * layer.gain).flip(2, 3)).transpose(0, 1)
    slow = F.conv_transpose2d(x, kernel, layer.bias, stride=2, padding=1)
    parameters = (layer.weight, layer.bias)
    assert_equal_to_rounding(to_third_order(layer(x, SOURCE), x, *parameters), to_third_order(slow, x, *parameters))


@pytest.mark.parametrize("up", [1.0, 0.25])
def test_an_up_sampling_site_acts_by_its_effective_weight(up):
    layer = SiteConv2d("a", 3, 4, up).double()
    layer.bias.data.normal_()
    x, site = normal(2, 3, 5, 5), layer.site()
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(doubled, site.weight * up, site.bias, padding=1)
    torch.testing.assert_close(layer(x, SOURCE), expected)


def test_a_down_sampling_convolution_averages_2x2_pixels_of_the_plain_one():
    plain, down = EqualConv2d(3, 4, 3, padding=1).double(), EqualConv2d(3, 4, 3, padding=1, down=True).double()
    plain.bias.data.normal_()
    down.load_state_dict(plain.state_dict())
    x = normal(2, 3, 8, 8)
    torch.testing.assert_close(down(x), F.avg_pool2d(plain(x), 2))


@pytest.mark.parametrize("down", [False, True])
def test_passes_that_share_kernels_equal_passes_of_their_own_to_the_second_derivative(down):
    conv = EqualConv2d(3, 4, 3, padding=1, down=down).double()
    x, y = normal(2, 3, 8, 8).requires_grad_(), normal(2, 3, 8, 8)

    def gradients():
        first, second = conv(x).tanh(), conv(y).tanh()
        (slope,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum() + second.square().sum(), list(conv.parameters()))

    own = gradients()
    with shared_kernels():
        shared = gradients()
    torch.testing.assert_close(shared, own)


def test_kernels_are_made_once_while_shared_and_never_kept_beyond(monkeypatch):
    conv, made = EqualConv2d(3, 4, 3), []
    effective = conv._effective_weight
    monkeypatch.setattr(conv, "_effective_weight", lambda: made.append(1) or effective())
    x = torch.randn(2, 3, 5, 5)
    with shared_kernels():
        with torch.no_grad():
            conv(x)
        # One without a graph does not stand for one with it.
        assert conv(x).requires_grad
        conv(x)
    assert len(made) == 2
    with torch.no_grad():
        conv.weight.mul_(2)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight * conv.gain, conv.bias))
    assert len(made) == 3


def test_equalised_layers_multiply_the_he_gain_in_but_not_into_biases():
    linear, conv = EqualLinear(5, 3, bias=2.0).double(), EqualConv2d(5, 3, 3).double()
    x, images = normal(4, 5), normal(2, 5, 6, 6)
    torch.testing.assert_close(linear(x), F.linear(x, linear.weight * math.sqrt(2 / 5)) + 2)
    conv.bias.data.normal_()
    torch.testing.assert_close(conv(images), F.conv2d(images, conv.weight * math.sqrt(2 / 45), conv.bias))


def test_the_gain_keeps_the_variance_through_a_wide_layer_and_its_leaky_relu():
    # Leaky ReLU of slope 0.2 keeps (1 + 0.04) / 2 of the second moment, the gain doubles it.
    y = leaky_relu(EqualLinear(512, 512)(torch.randn(256, 512))).detach()
    assert float(y.square().mean()) == pytest.approx(1.04, rel=0.05)
    assert he_gain(2) == 1.0


@pytest.mark.parametrize("ours", [leaky_relu, leaky_relu_by_sign])
def test_leaky_relu_equals_torchs_in_values_and_in_both_gradients(ours):
    x = torch.cat([normal(20), torch.zeros(1, dtype=torch.float64)]).requires_grad_()
    weight_a, weight_b = normal(21), normal(21)

    def results(activation):
        y = activation(x.square() - 0.5)
        (first,) = torch.autograd.grad((y * weight_a).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first * weight_b).sum(), x)
        return y, first, second

    torch.testing.assert_close(results(ours), results(lambda h: F.leaky_relu(h, 0.2)), rtol=0, atol=0)


def test_leaky_relu_by_sign_keeps_a_byte_per_value():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        leaky_relu_by_sign(torch.randn(8, requires_grad=True))
    assert [t.dtype for t in kept] == [torch.uint8]


@pytest.mark.parametrize("size", [4, 9])
def test_instance_norm_equals_torchs(size):
    x, scale, shift = 3 + normal(2, 4, size, size), normal(2, 4), normal(2, 4)
    expected = scale[..., None, None] * F.instance_norm(x) + shift[..., None, None]
    torch.testing.assert_close(instance_norm(x, scale, shift), expected)


def test_instance_norm_of_a_constant_picture_is_the_shift():
    shift = normal(2, 4)
    flat = instance_norm(normal(2, 4, 1, 1).expand(2, 4, 8, 8), normal(2, 4), shift)
    torch.testing.assert_close(flat, shift[..., None, None].expand(2, 4, 8, 8))


def test_blur_spreads_a_pixel_by_1_2_1_and_leaves_no_trace_in_the_state():
    x = torch.zeros(1, 2, 5, 5)
    x[0, 1, 2, 2] = 16
    blur = Blur()
    assert blur(x)[0, 1, 1:4, 1:4].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    assert blur(x)[0, 0].abs().max() == 0
    assert blur(torch.ones(1, 1, 5, 5))[0, 0, 0, 0] == 9 / 16  # zeros beyond the edge
    assert not blur.state_dict()


def test_pixel_norm_gives_unit_mean_square():
    y = PixelNorm()(5 * normal(3, 16))
    torch.testing.assert_close(y.square().mean(1), torch.ones(3, dtype=torch.float64))
