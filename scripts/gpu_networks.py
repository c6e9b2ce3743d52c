"""The sections of bench_gpu.py on D alone and on G alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from gpu_iterations import VARIANTS, networks
from gpu_measures import Measure, Size
from gpu_sections import disc_of
from torch import Tensor, nn

from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.layers.equalized import shared_kernels
from hmgan.losses.r1 import r1_penalty
from hmgan.train.precision import Mixed, join_passes
from hmgan.train.tasks.disc_passes import Judge, Shown, apart, at_once
from hmgan.train.tasks.graphed import GraphedDisc, GraphedGenerator
from hmgan.types import GenOut, Latents

# Merged passes may take 1.05 of those apart; a compiler within 1.1 of kernels would be taken in their place.
OVER = (
    ("bf16-kernels, merged", "bf16-kernels, apart", 1.05),
    ("bf16-kernels, merged, graph", "bf16-kernels, merged", 1.0),
    ("bf16-channels-last, merged, compiled", "bf16-kernels, merged", 1.1),
)
SAVED = {32: 5.0, 8: 25.0}  # ms that a graph of G is predicted to save, by the batch


def discriminator(size: Size) -> Iterator[Measure]:
    """D on reals, fakes and two views of each, without R1: in passes and in one, in a graph, compiled; R1 by itself."""
    for batch in (32, 8):
        batch = min(batch, size.batch_limit)
        found: dict[str, float] = {}
        for name, variant in disc_variants(size):
            disc, images, labels = disc_of(size, batch, variant)
            step = step_of(size, judge_of(size, name, disc, images), images, labels, "apart" not in name)
            found[name] = 1e3 * size.median(step)
            yield Measure(f"batch {batch}, {name}", found[name], "ms", None, {"gib": size.peak()})
            del disc, step
            size.emptied()
        for name, other, limit in OVER:  # what decides which of them a run takes
            if name in found and not size.tiny:
                yield Measure(f"batch {batch}, {name} over {other}", found[name] / found[other], "", limit)
    for variant in ("bf16", "bf16-kernels"):
        disc, images, labels = disc_of(size, batch, variant)
        images.requires_grad_()

        def penalised(disc: nn.Module = disc, images: Tensor = images, labels: Tensor = labels) -> None:
            r1_penalty(disc(images, labels).logit, images).backward()

        yield Measure(f"R1 alone, batch {batch}, {variant}", 1e3 * size.median(penalised), "ms")


def disc_variants(size: Size) -> Iterator[tuple[str, str]]:
    """Names of cases, and what of VARIANTS each is; graphs and compiled code are for a GPU alone."""
    for variant in ("bf16", "bf16-channels-last", "bf16-kernels"):
        yield f"{variant}, apart", variant
        yield f"{variant}, merged", variant
    if size.cuda:
        yield "bf16-kernels, merged, graph", "bf16-kernels"
        yield "bf16-channels-last, merged, graph", "bf16-channels-last"
        yield "bf16-channels-last, merged, compiled", "bf16-channels-last"


def judge_of(size: Size, name: str, disc: StyleGAN1Discriminator, images: Tensor) -> Judge:
    if "graph" in name:
        everything = torch.cat([images] * 6)
        return GraphedDisc(disc, everything, 6, partial(torch.autocast, size.device.type, torch.bfloat16))
    return torch.compile(disc) if "compiled" in name else disc


def step_of(size: Size, judge: Judge, images: Tensor, labels: Tensor, merged: bool) -> Callable[[], None]:
    mixed, pair = partial(torch.autocast, size.device.type, torch.bfloat16), torch.cat([images, images])
    shown = Shown(images, images, labels, lambda: pair, lambda: pair)

    def step() -> None:
        with nullcontext() if merged else shared_kernels():  # one pass has nobody to share with
            judged = at_once(judge, shown, mixed, viewed=True) if merged else apart(judge, shown, mixed)
            seen = judged.real_views().square().mean() + judged.fake_views().square().mean()
            (F.softplus(-judged.real.logit).mean() + F.softplus(judged.fake.logit).mean() + seen).backward()

    return step


def generator(size: Size) -> Iterator[Measure]:
    """G forward and backward by the classes in the batch, by layers and by kernels; on a GPU in a graph, too."""
    for classes, batch, variant in itertools.product((3, 10, 28), (32, 8), ("bf16", "bf16-kernels")):
        batch, saved = min(batch, size.batch_limit), SAVED[batch]
        gen = networks("low-rank" if size.tiny else "full", size, classes).generator
        join_passes(VARIANTS[variant], size.device, gen)
        latents, labels = gen.latents(list(range(batch)), 0.9), (torch.arange(batch) % classes).to(size.device)
        mixed = partial(torch.autocast, size.device.type, torch.bfloat16)
        name, eager = f"{min(classes, batch)} classes, batch {batch}, {variant}", 0.0
        for way in (gen, GraphedGenerator(gen, mixed)) if size.cuda else (gen,):

            def step(
                way: Callable[..., GenOut] = way,
                latents: Latents = latents,
                labels: Tensor = labels,
                mixed: Mixed = mixed,
            ) -> None:
                with mixed():
                    image = way(latents, labels).image
                image.square().mean().backward()

            found = 1e3 * size.median(step)
            graph = way is not gen
            expected = eager - saved if graph and classes == 3 else None
            yield Measure(f"{name}, graph" if graph else name, found, "ms", expected, {"gib": size.peak()})
            eager = found
        del gen, latents, way
        size.emptied()
