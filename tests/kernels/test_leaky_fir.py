"""One pass over a map, by Triton's interpreter, against torch's layers in float64. Slow: each operation is Python's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hmgan.layers.equalized import Blur, boxed

leaky_fir = pytest.importorskip("hmgan.kernels.leaky_fir", exc_type=ImportError).leaky_fir
NONE, BLUR, BLUR_BOX = 1, 3, 4
pytestmark = pytest.mark.usefixtures("poisoned")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def by_layers(a, bias_C, fir):
    h = F.leaky_relu(a + bias_C[:, None, None], 0.2)
    if fir == NONE:
        return h
    blurred = Blur().to(a)(h)
    return boxed(blurred) if fir == BLUR_BOX else blurred


def derivatives(way, a, bias_C, fir):
    """The result, its gradients, and the gradients of a function of those, as R1 takes them."""
    a, bias_C = a.clone().requires_grad_(), bias_C.clone().requires_grad_()
    s = way(a, bias_C, fir)
    waves = torch.arange(s.numel()).view(s.shape).to(a.device, torch.float64).sin().to(a.dtype)
    first = torch.autograd.grad((s.square() * waves).sum(), (a, bias_C), create_graph=True)
    second = torch.autograd.grad(first[0].square().sum() + first[1].pow(3).sum(), (a, bias_C))
    return [x.detach() for x in (s, *first, *second)]


def assert_near_float64(shape, fir, dtype=torch.float32, tolerance=1e-5):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(shape, generator=generator).to(DEVICE, dtype)
    bias_C = torch.randn(shape[1], generator=generator).to(DEVICE)
    got = derivatives(leaky_fir, a, bias_C, fir)
    wanted = derivatives(by_layers, a.double(), bias_C.double(), fir)
    assert [x.dtype for x in got] == [dtype, dtype, torch.float32, dtype, torch.float32]
    errors = [float((x - y).norm() / y.norm()) for x, y in zip(got, wanted, strict=True)]
    assert max(errors) < tolerance, errors


def test_bias_leaky_relu_blur_and_box_in_one_pass_have_the_layers_derivatives_up_to_the_second():
    assert_near_float64((1, 2, 1, 2), BLUR_BOX)


@pytest.mark.slow
@pytest.mark.parametrize("fir", [NONE, BLUR, BLUR_BOX])
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 3, 1, 1), (1, 70, 5, 18), (2, 1, 19, 3)])
def test_every_filter_has_them_on_maps_that_no_tile_fits(fir, shape):
    assert_near_float64(shape, fir)


@pytest.mark.slow
@pytest.mark.parametrize("fir", [NONE, BLUR, BLUR_BOX])
def test_in_bf16_every_result_is_rounded_once(fir):
    # A GPU rounds to the nearest; the interpreter cuts the bits off.
    epsilon = torch.finfo(torch.bfloat16).eps / (2 if DEVICE == "cuda" else 1)
    a = torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE, torch.bfloat16)
    bias_C = torch.tensor([0.5, -0.25, 0.0], device=DEVICE)
    wanted = by_layers(a.double(), bias_C.double(), fir)
    torch.testing.assert_close(leaky_fir(a, bias_C, fir).double(), wanted, rtol=epsilon, atol=1e-6)


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100_without_spilling_registers():
    script = Path(__file__).parents[2] / "scripts" / "compile_kernels.py"
    compiler = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, str(script)], env=compiler, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 bytes of stack") == done.stdout.count("\n") == 59
