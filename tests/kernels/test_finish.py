"""What follows G's convolutions, by Triton's interpreter, against torch's layers in float64."""

from __future__ import annotations

import pytest
import torch

from hmgan.backbones.stylegan1 import Finish, noisy
from hmgan.layers.equalized import Blur, instance_norm, leaky_relu, unboxed
from hmgan.layers.passes import Styling

finish = pytest.importorskip("hmgan.kernels.finish", exc_type=ImportError)
NONE, BLUR, BLUR_BOX = 1, 3, 4
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("v", "bias_BC", "strength_C", "noise_B1HW", "scale_BC", "shift_BC")


def filtered_by_layers(v, bias_BC, filtered):
    h = (unboxed(v * filtered.gain, 4) if filtered.fir == BLUR_BOX else v) + bias_BC[..., None, None]
    return h if filtered.fir == NONE else Blur().to(h)(h)


def by_layers(v, bias_BC, filtered, styling):
    return Finish()(filtered_by_layers(v, bias_BC, filtered), *styling)


def inputs(shape, fir, mean=0.0):
    """Of a map of this shape, after the filter."""
    generator = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    extra = fir == BLUR_BOX
    shapes = (
        (batch, channels, height + extra, width + extra), (batch, channels), (channels,),
        (batch, 1, height, width), (batch, channels), (batch, channels),
    )  # fmt: skip
    made = [torch.randn(one, generator=generator).to(DEVICE) for one in shapes]
    made[1] += mean
    return made


def derivatives(way, given, filtered):
    """The result and its gradients; noise has none."""
    given = [x.detach().clone().requires_grad_(name != "noise_B1HW") for name, x in zip(NAMES, given, strict=True)]
    v, bias_BC, *styling = given
    n = way(v, bias_BC, filtered, Styling(*styling))
    waves = torch.arange(n.numel()).view(n.shape).to(n.device, torch.float64).sin().to(n.dtype)
    wanted = [x for x in given if x.requires_grad]
    return [n.detach(), *torch.autograd.grad((n.square() * waves).sum(), wanted)]


def assert_near_float64(shape, fir, gain=1.0, mean=0.0, tolerance=1e-5):
    given, filtered = inputs(shape, fir, mean), finish.Filter(fir, gain)
    got = derivatives(finish.finished, given, filtered)
    wanted = derivatives(by_layers, [x.double() for x in given], filtered)
    assert all(x.dtype == torch.float32 for x in got)
    errors = [float((x - y).norm() / y.norm()) for x, y in zip(got, wanted, strict=True)]
    assert max(errors) < tolerance, errors


def test_box_blur_noise_leaky_relu_and_norm_in_passes_of_their_own_have_the_layers_gradients(poisoned):
    assert_near_float64((2, 3, 3, 2), BLUR_BOX, gain=4.0)


def test_a_mean_of_30_leaves_the_variance_its_digits(poisoned):
    """By the mean of squares less the square of the mean, 900 - 900 + 1, the error would be 1e-4."""
    given = inputs((1, 2, 20, 18), NONE, mean=30.0)
    moments = finish.activated(finish.channels_last(given[0]), *given[1:4], finish.Filter(NONE))[1]
    v, bias_BC, strength_C, noise_B1HW = (x.double() for x in given[:4])
    h = leaky_relu(noisy(v + bias_BC[..., None, None], strength_C, noise_B1HW))
    rstd_BC = (h.var((2, 3), correction=0) + finish.EPSILON).rsqrt()
    torch.testing.assert_close(moments.mean_BC.double(), h.mean((2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(moments.rstd_BC.double(), rstd_BC, rtol=1e-6, atol=0)


def test_a_second_derivative_is_refused():
    v, *rest = inputs((1, 1, 2, 2), NONE)
    v.requires_grad_()
    n = finish.finished(v, rest[0], finish.Filter(NONE), Styling(*rest[1:]))
    (grad,) = torch.autograd.grad(n.square().sum(), v, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize(("fir", "gain"), [(NONE, 1.0), (BLUR, 1.0), (BLUR_BOX, 1.0), (BLUR_BOX, 4.0)])
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 70, 5, 18), (3, 1, 19, 3), (1, 3, 33, 17), (1, 9, 3, 1)])
def test_every_filter_has_them_on_maps_that_no_tile_fits(fir, gain, shape, poisoned):
    assert_near_float64(shape, fir, gain)


@pytest.mark.slow
def test_moments_of_more_tiles_than_one_program_reads_at_once_are_merged(poisoned):
    assert_near_float64((1, 1, 130, 130), NONE, tolerance=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fir", [NONE, BLUR, BLUR_BOX])
def test_in_bf16_every_map_is_rounded_once(fir, poisoned):
    """h, and n of the h that was stored."""
    epsilon = torch.finfo(torch.bfloat16).eps / (2 if DEVICE == "cuda" else 1)  # the interpreter cuts bits off
    given = inputs((2, 3, 6, 5), fir)
    v, bias_BC, strength_C, noise_B1HW, scale_BC, shift_BC = given
    v = v.bfloat16()
    filtered = finish.Filter(fir)
    h, moments = finish.activated(finish.channels_last(v), bias_BC, strength_C, noise_B1HW, filtered)
    ones, zeros = torch.ones_like(scale_BC).double(), torch.zeros_like(shift_BC).double()
    wanted = filtered_by_layers(v.double(), bias_BC.double(), filtered)
    wanted = leaky_relu(noisy(wanted, strength_C.double(), noise_B1HW.double()))
    torch.testing.assert_close(h.double(), wanted, rtol=epsilon, atol=1e-6)
    n = finish.normalised(h, moments, scale_BC, shift_BC)
    assert (h.dtype, n.dtype) == (torch.bfloat16, torch.bfloat16)
    wanted = instance_norm(h.double(), ones, zeros) * scale_BC[..., None, None] + shift_BC[..., None, None]
    torch.testing.assert_close(n.double(), wanted, rtol=epsilon, atol=1e-6)
