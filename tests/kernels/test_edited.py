"""Kernels of every class as convolutions take them, by Triton's interpreter, against torch's edits in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from hmgan.layers.edits import LiveAdaFM, kernel_statistics
from hmgan.layers.fused_first import FusedFirst
from hmgan.layers.sites import SiteConv2d

edited = pytest.importorskip("hmgan.kernels.edited", exc_type=ImportError)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SITES = {"plain": SiteConv2d, "up": partial(SiteConv2d, up=1.0), "fused first": FusedFirst}


def edit_of(site, rows):
    """A source that trains, so that its normalised kernels have a gradient, too."""
    outputs, inputs = site.weight.shape[:2]
    made = [torch.randn(rows, *shape).to(DEVICE) for shape in ((outputs, inputs), (outputs, inputs), (outputs,))]
    return [x.to(site.weight).requires_grad_() for x in made]


def by_layers(site, tables):
    weights_R, _ = LiveAdaFM(1e-5, *tables).weights(site.weight, site.bias)
    return [site.turned(weight) for weight in weights_R]


def by_kernels(site, tables, dtype=torch.float32):
    form = edited.Form(dtype, site.transposed, site.flipped)
    return edited.edited(LiveAdaFM(1e-5, *tables).tables(site.weight), form)


def derivatives(way, site, tables):
    """The kernels, and the gradients of a function of them."""
    kernels = way(site, tables)
    waves = torch.arange(kernels[0].numel()).view(kernels[0].shape).to(site.weight.device, torch.float64).sin()
    total = sum(((row + 1) * waves.to(kernel) * kernel.square()).sum() for row, kernel in enumerate(kernels))
    return [*(kernel.detach() for kernel in kernels), *torch.autograd.grad(total, (*tables[:2], site.weight))]


def assert_near_float64(kind, outputs, inputs, rows):
    torch.manual_seed(0)
    site = SITES[kind]("it", inputs, outputs).to(DEVICE)
    tables = edit_of(site, rows)
    got = derivatives(by_kernels, site, tables)
    wanted = derivatives(by_layers, site.double(), [x.detach().double().requires_grad_() for x in tables])
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got[:rows])
    errors = [float((x - y).norm() / y.norm()) for x, y in zip(got, wanted, strict=True)]
    assert max(errors) < 1e-5, errors


@pytest.mark.parametrize("kind", SITES)
def test_kernels_are_edited_turned_and_laid_out_in_one_pass_with_the_layers_gradients(kind, poisoned):
    assert_near_float64(kind, 5, 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("sides", [(1, 1), (33, 2), (7, 70), (32, 64)])
def test_they_are_of_any_width(kind, sides, poisoned):
    assert_near_float64(kind, *sides, 3)


def test_kernels_for_bf16_are_rounded_once(poisoned):
    epsilon = torch.finfo(torch.bfloat16).eps / (2 if DEVICE == "cuda" else 1)  # the interpreter cuts bits off
    torch.manual_seed(0)
    site = SiteConv2d("it", 3, 5).to(DEVICE)
    tables = edit_of(site, 2)
    got = by_kernels(site, tables, torch.bfloat16)
    wanted = by_layers(site.double(), [x.double() for x in tables])
    assert got[0].dtype == torch.bfloat16
    torch.testing.assert_close([x.double() for x in got], wanted, rtol=epsilon, atol=1e-6)
    assert kernel_statistics(got[0].float())[0].abs().max() > 0.1  # shifts are in them
