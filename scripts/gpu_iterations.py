"""Whole training iterations for bench_gpu.py: the paper's row C at the port's widths.

Times are medians with the device drained before and after; images/s weigh the iterations with and without R1 as a run
does.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import row_c
import torch
from gpu_measures import Measure, Size
from row_c import LAZY
from torch.profiler import ProfilerActivity, profile

from hmgan.config.settings import Compute
from hmgan.generators.build import Networks
from hmgan.layers.float32 import products
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.tasks.base import Phase
from hmgan.train.trainer import Trainer
from hmgan.types import Batch

VARIANTS = {
    "bf16": Compute(precision="bf16"),
    "bf16-channels-last": Compute(precision="bf16"),
    "bf16-kernels": Compute(precision="bf16", kernels="auto"),
    "tf32-kernels": Compute(kernels="auto"),
    "bf16-kernels-ahead": Compute(precision="bf16", kernels="auto", ahead=True),
    "bf16-kernels-merged": Compute(precision="bf16", kernels="auto", merge=True),
    "bf16-kernels-graphs": Compute(precision="bf16", kernels="auto", merge=True, graphs=True, ahead=True),
    "bf16-kernels-stratified": Compute(precision="bf16", kernels="auto", merge=True, graphs=True, ahead=True),
}
# How D's images lie where a run does not choose, so that both are measured beside h100.json.
LAYOUTS = {"bf16": torch.contiguous_format, "bf16-channels-last": torch.channels_last}
# Heads, classes, batch, variant; images/s as measured before (the first three, of h100.json) or as predicted.
PLAN = (
    ("full", 3, 8, "bf16", 42.6),
    ("full", 3, 32, "bf16", 79.1),
    ("full", 3, 32, "bf16-channels-last", 91.3),
    # 101 and 50 by nine taps and edits once per step; less bytes and launches: 190 to 215, and 70.
    ("full", 3, 32, "bf16-kernels", 200.0),
    ("full", 3, 8, "bf16-kernels", 70.0),
    # Draws ahead, D merged and graphed: 230 to 250, and 110; G's graphs too: 240 to 260, and 150.
    ("full", 3, 32, "bf16-kernels-graphs", 240.0),
    ("full", 3, 8, "bf16-kernels-graphs", 110.0),
    ("full", 3, 32, "bf16-kernels-stratified", 250.0),
    ("full", 3, 8, "bf16-kernels-stratified", 150.0),
    ("full", 3, 32, "bf16-kernels-ahead", None),
    ("full", 3, 8, "bf16-kernels-ahead", None),
    ("full", 3, 32, "bf16-kernels-merged", None),
    ("full", 3, 16, "bf16-kernels", None),
    ("full", 3, 64, "bf16-kernels", None),
    ("full", 102, 32, "bf16-kernels", None),
    ("full", 3, 32, "tf32-kernels", None),
    ("low-rank", 3, 32, "bf16-kernels", None),
    ("low-rank", 3, 8, "bf16-kernels", None),
)


class Case(NamedTuple):
    """One line of the JSON file, which scaling_model.py reads."""

    heads: str
    batch: int
    variant: str
    images_per_second: float
    seconds: float  # of an iteration, one in LAZY with R1
    seconds_plain: float
    seconds_r1: float
    seconds_disc: float  # the D phase without R1
    seconds_gen: float
    seconds_draws: float  # of these, on the CPU: z and noise of one phase
    gib: float  # peak
    trained: int  # parameters of G
    classes: int


def networks(heads: str, size: Size, classes: int) -> Networks:
    """Made on the device: 272 million normals take a CPU seconds."""
    with size.device:
        return row_c.networks(classes, size.resolution, size.widths, heads)


def trainer_of(pair: Networks, variant: str, batch: int, classes: int, runtime: Runtime) -> Trainer:
    """Of networks that another may have trained before."""
    pair.discriminator.requires_grad_(True)
    experiment = row_c.experiment_of(batch, VARIANTS[variant], stratified="stratified" in variant)
    task = row_c.task_of(pair, experiment, classes, runtime)
    task.rules = dataclasses.replace(task.rules, layout=LAYOUTS.get(variant, task.layout))
    return row_c.trainer_of(task, runtime)


def measured(trainer: Trainer, heads: str, variant: str, classes: int, images: Batch, size: Size) -> Case:
    phases, minimise = defaultdict(list), trainer._minimise

    def timed(phase: Phase, parts: Any) -> Any:
        seconds, result = size.drained(lambda: minimise(phase, parts))
        phases[phase.name, trainer.step % LAZY == 0].append(seconds)
        return result

    trainer._minimise = timed  # type: ignore[method-assign]
    whole: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(size.repeats + 2):
        for step in (0, 1, 2):  # one with R1, two without
            trainer.step = step
            seconds, _ = size.drained(lambda: trainer.take_step(images))
            if turn > 1:  # the first two make moments, choose algorithms and compile
                whole[step == 0].append(seconds)
        if turn == 1:
            phases.clear()
            if size.cuda:
                torch.cuda.reset_peak_memory_stats()
    plain, with_r1 = statistics.median(whole[False]), statistics.median(whole[True])
    mean, batch = (with_r1 + (LAZY - 1) * plain) / LAZY, len(images.labels)
    generator = trainer.task.generator
    draws = [size.drained(lambda: generator.latents(trainer.draws().keys("gen"), 0.9))[0] for _ in range(3)]
    peak = torch.cuda.max_memory_allocated() / 2**30 if size.cuda else 0.0
    trained = sum(p.numel() for p in generator.trained.parameters() if p.requires_grad)
    disc, gen = (statistics.median(phases[name, False]) for name in ("D", "G"))
    seconds = (mean, plain, with_r1, disc, gen, min(draws))
    return Case(heads, batch, variant, batch / mean, *seconds, peak, trained, classes)


def iterations(size: Size) -> Iterator[Measure]:
    made: dict[tuple[str, int], Networks] = {}
    runtime = Runtime()
    for heads, classes, batch, variant, expected in PLAN:
        batch = min(batch, size.batch_limit)
        if (heads, classes) not in made:
            made.clear()
            made[heads, classes] = networks(heads, size, classes)
        settings = VARIANTS[variant]
        if settings.graphs and not size.cuda:
            continue
        with products(tf32=settings.tf32):
            trainer = trainer_of(made[heads, classes], variant, batch, classes, runtime)
            case = measured(trainer, heads, variant, classes, row_c.images_of(batch, size.resolution, classes), size)
        name = f"{heads}, {classes} classes, batch {batch}, {variant}"
        yield Measure(name, case.images_per_second, "images/s", None if size.tiny else expected, case._asdict())
        del trainer
        gc.collect()  # a trainer holds itself
        size.emptied()


def _one(size: Size, batch: int) -> tuple[Trainer, Batch]:
    trainer = trainer_of(networks("full", size, 3), "bf16-kernels", batch, 3, Runtime())
    images = row_c.images_of(batch, size.resolution, 3)
    for step in (1, 2):
        trainer.step = step
        trainer.take_step(images)
    return trainer, images


def syncs(size: Size) -> Iterator[Measure]:
    """Places of a step without R1 where the host waits for the device; only a GPU has them."""
    trainer, images = _one(size, min(8, size.batch_limit))
    if not size.cuda:
        return
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.take_step(images)
    torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        print(f"{warning.filename}:{warning.lineno}: {str(warning.message)[:100]}")
    yield Measure("host waits for the device, batch 8", len(caught), "times a step", 0.0)


def profiled(size: Size) -> Iterator[Measure]:
    """Where the device's time of one iteration without R1 goes; annotations are no kernels, and left out."""
    for batch in (32, 8):
        batch = min(batch, size.batch_limit)
        trainer, images = _one(size, batch)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if size.cuda else [])]
        with profile(activities=activities) as found:
            wall, _ = size.drained(partial(trainer.take_step, images))
        kind = torch.autograd.DeviceType.CUDA if size.cuda else torch.autograd.DeviceType.CPU
        rows = [e for e in found.key_averages() if e.device_type == kind and not e.is_user_annotation]
        share = (lambda e: e.self_device_time_total) if size.cuda else (lambda e: e.self_cpu_time_total)
        rows.sort(key=share, reverse=True)
        top = [[e.key[:120], round(share(e) / 1e6, 6), e.count] for e in rows[:40]]
        busy = sum(share(e) for e in rows) / 1e3
        yield Measure(f"busy, batch {batch}", busy, "ms", None, {"wall": wall, "longest": top})
        yield Measure(f"kernels launched, batch {batch}", sum(e.count for e in rows), "")
        del trainer
        gc.collect()
        size.emptied()
