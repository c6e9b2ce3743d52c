"""The sections of bench_gpu.py below a whole iteration: the card, correctness, convolutions, kernels."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from gpu_generator import BANDWIDTH, error, gen_checks, kernel_checks, kernel_passes, poisoned
from gpu_iterations import LAYOUTS, VARIANTS, networks, trainer_of
from gpu_measures import Measure, Size
from row_c import images_of
from torch import Tensor

from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.kernels.leaky_fir import leaky_fir
from hmgan.kernels.stencil import BLUR, BLUR_BOX, NONE
from hmgan.layers.equalized import Blur, boxed
from hmgan.losses.r1 import r1_penalty
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.precision import join_passes, layout_of

FIRS = {"none": NONE, "blur": BLUR, "blur and box": BLUR_BOX}
D_MAPS = ((64, 256), (128, 128), (256, 64), (512, 32), (512, 16))  # channels and pixels before a blur, largest first


def ceilings(size: Size) -> Iterator[Measure]:
    """The two numbers that limits are made of, and what a launch costs."""
    values = 1 << (12 if size.tiny else 29)
    one, other = (torch.randn(values, device=size.device) for _ in range(2))
    yield Measure("copy", 8 * values / size.median(lambda: other.copy_(one)) / 1e12, "TB/s", None if size.tiny else 3.0)
    side = 64 if size.tiny else 8192
    a, b = (torch.randn(side, side, device=size.device, dtype=torch.bfloat16) for _ in range(2))
    expected = None if size.tiny else 798.0
    yield Measure(f"product of {side}, bf16", 2 * side**3 / size.median(lambda: a @ b) / 1e12, "TFLOP/s", expected)
    tiny = torch.zeros(1, device=size.device)
    launches = 2000
    yield Measure("launch", 1e6 * size.median(lambda: [tiny.add_(1) for _ in range(launches)]) / launches, "us")


def by_layers(a: Tensor, bias_C: Tensor, fir: int) -> Tensor:
    h = F.leaky_relu(a + bias_C.to(a.dtype)[:, None, None], 0.2)
    if fir == NONE:
        return h
    blurred = Blur().to(a.device, a.dtype)(h)
    return boxed(blurred) if fir == BLUR_BOX else blurred


def derivatives(way: Callable[..., Tensor], a: Tensor, bias_C: Tensor, fir: int) -> list[Tensor]:
    a, bias_C = a.detach().requires_grad_(), bias_C.detach().requires_grad_()
    s = way(a, bias_C, fir)
    waves = torch.arange(s.numel(), device=a.device).view(s.shape).double().sin().to(a.dtype)
    first = torch.autograd.grad((s.square() * waves).sum(), (a, bias_C), create_graph=True)
    return [s, *first, *torch.autograd.grad(first[0].square().sum() + first[1].pow(3).sum(), (a, bias_C))]


def checks(size: Size) -> Iterator[Measure]:
    """Right before fast: ends with an error, and the bench with it, where anything is further off than it may be."""
    shapes = ((1, 2, 1, 2),) if size.tiny else ((2, 5, 7, 6), (1, 70, 33, 18), (3, 513, 5, 5), (2, 64, 65, 67))
    found = []
    for (name, fir), shape in itertools.product(FIRS.items(), shapes):
        a, bias_C = torch.randn(shape, device=size.device), torch.randn(shape[1], device=size.device)
        with poisoned():
            got = derivatives(leaky_fir, a, bias_C, fir)
        wanted = derivatives(by_layers, a.double(), bias_C.double(), fir)
        found.append(Measure(f"leaky and {name} of {shape}, to float64", max(map(error, got, wanted)), "", 1e-5))
    found += list(kernel_checks(size))
    if size.cuda:
        found += [*disc_checks(size), *gen_checks(size)]
    yield from found
    if wrong := [measure.case for measure in found if not measure.value <= (measure.expected or 0.0)]:
        sys.exit(f"wrong: {'; '.join(wrong)}")


def disc_checks(size: Size) -> Iterator[Measure]:
    """D by kernels against D by layers, and a training against itself."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    exact = [disc_gradients(size, draw, "tf32-kernels", layers=True) for draw in range(8)]
    found = [disc_gradients(size, draw, "tf32-kernels") for draw in range(8)]
    for place, (name, limit) in enumerate((("gradients of D", 1e-4), ("R1", 1e-5))):
        worst = max(error(a[place], b[place]) for a, b in zip(found, exact, strict=True))
        yield Measure(f"{name}, float32", worst, "", limit)
    eager, kernels = (
        sum(error(disc_gradients(size, i, "bf16-kernels", layers=layers)[0], exact[i][0]) for i in range(8))
        for layers in (True, False)
    )
    yield Measure("gradients of D, bf16, error over that of layers", kernels / eager, "", 1.25)
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        images = images_of(8, size.resolution, 3)
        trainer = trainer_of(networks("low-rank", size, 3), "bf16-kernels", 8, 3, Runtime())
        for step in range(3):
            trainer.step = step
            trainer.take_step(images)
        trained = [*trainer.task.discriminator.parameters(), *trainer.task.generator.trained.parameters()]
        states.append(torch.cat([p.detach().flatten() for p in trained]))
    yield Measure(
        "values of D and G that differ after three steps, done twice", float((states[0] != states[1]).sum()), "", 0
    )


def disc_gradients(size: Size, draw: int, variant: str, layers: bool = False) -> tuple[Tensor, Tensor]:
    """Of D's logits on random images, as one vector, and R1."""
    torch.manual_seed(draw)
    disc, images, labels = disc_of(size, 4, variant, layers)
    images.requires_grad_()
    penalty = r1_penalty(disc(images, labels).logit, images)
    with torch.autocast(size.device.type, torch.bfloat16, enabled="bf16" in variant):
        logit = disc(images.detach(), labels).logit
    grads = torch.autograd.grad(F.softplus(-logit).sum() + penalty, [p for p in disc.parameters()], allow_unused=True)
    return torch.cat([grad.flatten() for grad in grads if grad is not None]).double(), penalty


def disc_of(
    size: Size, batch: int, variant: str, layers: bool = False
) -> tuple[StyleGAN1Discriminator, Tensor, Tensor]:
    with size.device:
        disc = StyleGAN1Discriminator(3, resolution=size.resolution, channels=size.widths)
        images = torch.randn(batch, 3, size.resolution, size.resolution)
        labels = torch.arange(batch) % 3
    settings = VARIANTS[variant]
    settings = settings.model_copy(update={"kernels": "torch"}) if layers else settings
    by_kernels, _ = join_passes(settings, size.device, disc)
    layout = layout_of(size.device, settings.precision, by_kernels, disc.cpu_layout)
    return disc, images.contiguous(memory_format=LAYOUTS.get(variant, layout)), labels


def convolutions(size: Size) -> Iterator[Measure]:
    """Nine taps of a boxed map against sixteen, each with both of its gradients."""
    for channels, pixels in D_MAPS[-1:] if size.tiny else D_MAPS:
        channels, pixels = (8, 8) if size.tiny else (channels, pixels)
        outputs = min(2 * channels, 512)
        times = []
        for kernel, extra in ((3, 1), (4, 2)):  # 3x3 at stride 2 without a border, 4x4 with one
            shape = (min(64, size.batch_limit), channels, pixels + extra, pixels + extra)
            x = torch.randn(shape, device=size.device, dtype=torch.bfloat16).contiguous(
                memory_format=torch.channels_last
            )
            w = torch.randn(outputs, channels, kernel, kernel, device=size.device, dtype=torch.bfloat16)
            x.requires_grad_(), w.requires_grad_()
            times.append(size.median(lambda x=x, w=w: F.conv2d(x, w, stride=2).sum().backward()))
        yield Measure(f"{channels} x {pixels} px, nine taps over sixteen", times[0] / times[1], "", 0.9)


def passes(size: Size) -> Iterator[Measure]:
    """Every kernel at D's and G's maps, beside the layers that it replaces."""
    for channels, pixels in D_MAPS[-1:] if size.tiny else D_MAPS:
        shape = (1, 2, 2, 2) if size.tiny else (32, channels, pixels, pixels)
        a = torch.randn(shape, device=size.device, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        a.requires_grad_()
        bias_C = torch.randn(shape[1], device=size.device, requires_grad=True)
        grad = torch.randn_like(leaky_fir(a, bias_C, BLUR_BOX))
        milliseconds = 1e3 * a.numel() / BANDWIDTH
        for name, way in (("kernels", leaky_fir), ("layers", by_layers)):
            run = partial(way, a, bias_C, BLUR_BOX)
            with torch.no_grad():
                forward = size.median(run)
            both = size.median(partial(both_ways, run, (a, bias_C), grad))
            # Reads 2 bytes and writes 2 and a sign; the transpose reads 2 and the sign, and writes 2.
            expected = (5 * milliseconds, 10 * milliseconds) if name == "kernels" and not size.tiny else (None, None)
            yield Measure(f"{shape}, {name}, forward", 1e3 * forward, "ms", expected[0])
            yield Measure(f"{shape}, {name}, with gradients", 1e3 * both, "ms", expected[1])
    yield from kernel_passes(size)


def both_ways(run: Callable[[], Tensor], inputs: tuple[Tensor, ...], grad: Tensor) -> None:
    torch.autograd.grad(run(), inputs, grad)
