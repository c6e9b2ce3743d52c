"""What follows G's convolutions, by Triton's interpreter, against torch's layers in float64."""

from __future__ import annotations

import pytest
import torch

from hmgan.backbones.stylegan1 import Finish
from hmgan.layers.equalized import Blur, unboxed
from hmgan.layers.passes import Styling

finish = pytest.importorskip("hmgan.kernels.finish", exc_type=ImportError)
NONE, BLUR, BLUR_BOX = 1, 3, 4
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("v", "bias_BC", "strength_C", "noise_B1HW", "scale_BC", "shift_BC")


def by_layers(v, bias_BC, filtered, styling):
    h = v + bias_BC[..., None, None]
    if filtered.fir == BLUR_BOX:
        h = v * filtered.gain
        h = unboxed(h, 4) + bias_BC[..., None, None]
    if filtered.fir != NONE:
        h = Blur().to(h)(h)
    return Finish()(h, *styling)


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
