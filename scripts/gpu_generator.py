"""G's kernels for bench_gpu.py: against float64, against the layers, and how fast they move bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from gpu_iterations import VARIANTS, networks
from gpu_measures import Measure, Size
from torch import Tensor

from hmgan.backbones.stylegan1 import Finish
from hmgan.kernels.edited import Form, edited, gathered, made
from hmgan.kernels.finish import Filter, activated, finished, norm_sums, normalised, transposed
from hmgan.kernels.stencil import BLUR, BLUR_BOX, NONE, channels_last
from hmgan.layers.edits import AdaFM, Tables
from hmgan.layers.equalized import Blur, unboxed
from hmgan.layers.passes import Styling
from hmgan.train.precision import join_passes

BANDWIDTH = 2.3e12  # bytes per second that a kernel is expected to reach
FILTERS = {"none": Filter(NONE), "blur": Filter(BLUR), "box and blur": Filter(BLUR_BOX, 4.0)}
FORMS = {"as they are": (False, False), "transposed": (True, False), "transposed and flipped": (True, True)}
G_MAPS = ((64, 256), (128, 128), (256, 64), (512, 32), (512, 16))  # channels and pixels, largest first


class Given(NamedTuple):
    """What a map is finished from."""

    v: Tensor
    bias_BC: Tensor
    styling: Styling

    @classmethod
    def drawn(cls, shape: tuple[int, ...], filtered: Filter, device: torch.device) -> Given:
        """For a result of this shape."""
        batch, channels, height, width = shape
        extra = filtered.fir == BLUR_BOX
        of_sample = (batch, channels)
        styling = [(channels,), (batch, 1, height, width), of_sample, of_sample]
        drawn = partial(torch.randn, device=device)
        return cls(
            drawn(batch, channels, height + extra, width + extra), drawn(of_sample), Styling(*map(drawn, styling))
        )

    def cast(self, change: Callable[[Tensor], Tensor]) -> Given:
        return Given(change(self.v), change(self.bias_BC), Styling(*map(change, self.styling)))


def by_layers(v: Tensor, bias_BC: Tensor, filtered: Filter, styling: Styling) -> Tensor:
    h = (unboxed(v * filtered.gain, 4) if filtered.fir == BLUR_BOX else v) + bias_BC[..., None, None].to(v.dtype)
    h = h if filtered.fir == NONE else Blur().to(h.device, h.dtype)(h)
    return Finish()(h, *styling)


def derivatives(way: Callable[..., Tensor], given: Given, filtered: Filter) -> list[Tensor]:
    """The result and its gradients, but for the noise, which has none."""
    v, bias_BC, (strength_C, noise_B1HW, scale_BC, shift_BC) = given
    inputs = [x.detach().requires_grad_() for x in (v, bias_BC, strength_C, scale_BC, shift_BC)]
    n = way(*inputs[:2], filtered, Styling(inputs[2], noise_B1HW, *inputs[3:]))
    waves = torch.arange(n.numel(), device=n.device).view(n.shape).double().sin().to(n.dtype)
    return [n, *torch.autograd.grad((n.square() * waves).sum(), inputs)]


@contextmanager
def poisoned() -> Iterator[None]:
    """What is not written stays NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got.detach() - wanted.detach()).norm() / wanted.detach().norm())


def kernel_checks(size: Size) -> Iterator[Measure]:
    """K3 to K8 against float64, on sizes that no tile fits."""
    torch.manual_seed(0)  # of few pixels, some draws have gradients that vanish
    shapes = ((1, 2, 2, 3),) if size.tiny else ((2, 5, 7, 6), (1, 70, 33, 18), (3, 513, 5, 5), (2, 64, 65, 67))
    for (name, filtered), shape in itertools.product(FILTERS.items(), shapes):
        given = Given.drawn(shape, filtered, size.device)
        with poisoned():
            got = derivatives(finished, given, filtered)
        wanted = derivatives(by_layers, given.cast(Tensor.double), filtered)
        worst = max(map(error, got, wanted))
        yield Measure(f"{name}, noise, leaky and norm of {shape}, to float64", worst, "", 1e-5)
    sides = ((3, 5),) if size.tiny else ((3, 5), (33, 70), (512, 512))
    for (name, turns), (outputs, inputs) in itertools.product(FORMS.items(), sides):
        yield Measure(
            f"kernels of {outputs}, {inputs}, {name}, to float64", edit_error(size, outputs, inputs, *turns), "", 1e-5
        )


def edit_error(size: Size, outputs: int, inputs: int, is_transposed: bool, flipped: bool) -> float:
    """Of three rows and their gradients, the largest."""
    tables = tables_of(size, outputs, inputs, 3)
    wanted, *_ = AdaFM(*(x.double() for x in tables)).weights(tables.normal_OIkk, tables.bias_RO.double())
    grads = torch.randn_like(wanted)
    turned = [
        [x.transpose(0, 1) if is_transposed else x for x in (rows.flip(3, 4) if flipped else rows)]
        for rows in (wanted, grads)
    ]
    form = Form(torch.float32, is_transposed, flipped)
    with poisoned():
        kernels = made(*tables[:3], form)
        of_scale_ROI, of_shift_ROI = gathered(tuple(x.float() for x in turned[1]), tables.normal_OIkk, form)
    of_scale = error(of_scale_ROI, (grads * tables.normal_OIkk).sum((3, 4)))
    of_shift = error(of_shift_ROI, grads.sum((3, 4)))
    return max(of_scale, of_shift, *map(error, kernels, turned[0]))


def tables_of(size: Size, outputs: int, inputs: int, rows: int) -> Tables:
    shapes = (outputs, inputs, 3, 3), (rows, outputs, inputs), (rows, outputs, inputs), (rows, outputs)
    return Tables(*(torch.randn(shape, device=size.device) for shape in shapes))


def gen_checks(size: Size) -> Iterator[Measure]:
    """G by kernels against G by layers."""
    exact = [gen_gradients(size, draw, "tf32-kernels", layers=True) for draw in range(8)]
    found = [gen_gradients(size, draw, "tf32-kernels") for draw in range(8)]
    yield Measure("gradients of G, float32", max(map(error, found, exact)), "", 1e-3)
    eager, kernels = (
        sum(error(gen_gradients(size, i, "bf16-kernels", layers=layers), exact[i]) for i in range(8))
        for layers in (True, False)
    )
    yield Measure("gradients of G, bf16, error over that of layers", kernels / eager, "", 1.25)


def gen_gradients(size: Size, draw: int, variant: str, layers: bool = False) -> Tensor:
    """Of a function of G's images of three classes, as one vector."""
    torch.manual_seed(draw)
    gen = networks("low-rank", size, 3).generator
    settings = VARIANTS[variant]
    join_passes(settings.model_copy(update={"kernels": "torch"}) if layers else settings, size.device, gen)
    labels = (torch.arange(4) % 3).to(size.device)
    with torch.autocast(size.device.type, torch.bfloat16, enabled="bf16" in variant):
        image = gen(gen.latents([draw, 1, 2, 3]), labels).image
    waves = torch.arange(image.numel(), device=size.device).view(image.shape).double().sin().to(image.dtype)
    grads = torch.autograd.grad((image.square() * waves).sum(), [p for p in gen.parameters() if p.requires_grad])
    return torch.cat([grad.flatten() for grad in grads]).double()


def kernel_passes(size: Size) -> Iterator[Measure]:
    """K3 to K6 at G's maps and K7 and K8 at its largest site, beside the layers that they replace."""
    for channels, pixels in G_MAPS[-1:] if size.tiny else G_MAPS:
        shape = (1, 2, 2, 2) if size.tiny else (32, channels, pixels, pixels)
        for name in ("box and blur", "none"):
            yield from map_passes(size, shape, name)
    yield from edit_passes(size)


def map_passes(size: Size, shape: tuple[int, ...], name: str) -> Iterator[Measure]:
    filtered = FILTERS[name]
    v, bias_BC, styling = Given.drawn(shape, filtered, size.device)
    v = channels_last(v.bfloat16())
    _, noise_B1HW, scale_BC, shift_BC = styling
    h, moments = activated(v, bias_BC, *styling[:2], filtered)
    grad = torch.randn_like(h)
    sums = norm_sums(grad, h, moments)
    given = (grad, h, moments, scale_BC, sums, noise_B1HW, filtered, False)
    two_maps = 2 * 2 * h.numel()  # of 2 bytes a value
    for kernel, run, moved in (
        ("K3", partial(activated, v, bias_BC, *styling[:2], filtered), two_maps + 4 * noise_B1HW.numel()),
        ("K4", partial(normalised, h, moments, scale_BC, shift_BC), two_maps),
        ("K5", partial(norm_sums, grad, h, moments), two_maps),
        ("K6", partial(transposed, *given), 3 * two_maps // 2),
    ):
        yield rate(size, f"{kernel}, {name}, {shape}", run, moved)
    inputs = [x.detach().requires_grad_() for x in (v, bias_BC, scale_BC, shift_BC)]
    last = Styling(styling.strength_C, noise_B1HW, *inputs[2:])
    for way_name, way, expected in (
        ("kernels", finished, 1e3 * 4.5 * two_maps / BANDWIDTH),
        ("layers", by_layers, None),
    ):
        run = partial(both_ways, partial(way, *inputs[:2], filtered, last), inputs, grad)
        yield Measure(
            f"{name}, {shape}, {way_name}, with gradients",
            1e3 * size.median(run),
            "ms",
            None if size.tiny else expected,
        )


def edit_passes(size: Size) -> Iterator[Measure]:
    rows, side = 3, 3 if size.tiny else 512
    tables = tables_of(size, side, side, rows)
    form = Form(torch.bfloat16)
    kernels = made(*tables[:3], form)
    entries = rows * side * side
    moved = 4 * tables.normal_OIkk.numel() + (2 * 4 + 9 * 2) * entries  # kernels, two tables, and what they make
    name = f"{rows} rows of {side} x {side} x 3 x 3"
    yield rate(size, f"K7, {name}", partial(made, *tables[:3], form), moved)
    yield rate(size, f"K8, {name}", partial(gathered, kernels, tables.normal_OIkk, form), moved)
    inputs = [x.requires_grad_() for x in tables[1:3]]
    grads = [torch.randn_like(kernel) for kernel in kernels]

    def eager() -> list[Tensor]:
        weights, _ = AdaFM(*tables).weights(tables.normal_OIkk, tables.bias_RO)
        return [channels_last(weight.bfloat16()) for weight in weights]

    for way_name, way in (("kernels", partial(edited, tables, form)), ("layers", eager)):
        expected = 1e3 * 2 * moved / BANDWIDTH if way_name == "kernels" and not size.tiny else None
        run = partial(both_ways, way, inputs, grads)
        yield Measure(f"{name}, {way_name}, with gradients", 1e3 * size.median(run), "ms", expected)


def rate(size: Size, case: str, run: Callable[[], Any], moved: int) -> Measure:
    """Bytes per second of a kernel that moves so many."""
    with torch.no_grad():
        seconds = size.median(run)
    case = f"{case}, {moved / 1e6:.4g} MB"
    return Measure(case, moved / seconds / 1e9, "GB/s", None if size.tiny else BANDWIDTH / 1e9, {"bytes": moved})


def both_ways(run: Callable[[], Any], inputs: list[Tensor], grad: Any) -> None:
    torch.autograd.grad(run(), inputs, grad)
