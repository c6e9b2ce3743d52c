"""What a training iteration of the 256 px model costs on one GPU: images/s, seconds by phase, and peak memory.

    python scripts/bench_gpu.py --json gpu.json                 # every variant, in under four minutes
    python scripts/bench_gpu.py --batch 16 --variant bf16       # one of them

The paper's row C at the port's widths: hyper-modulation of every convolution, Barlow Twins on two views of reals and
fakes, lazy R1 at one step in 16, Adam for both networks, a moving average. Times are medians of iterations with the
device drained before and after; images/s weigh the iterations with and without R1 as a run does. Variants that no time
is left for are not started, and named. The JSON file is rewritten after each variant, so that it is whole at any end.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.config.experiment import Experiment
from hmgan.config.settings import R1, Choice, Compute, Train
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.generators.build import Networks
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.float32 import products
from hmgan.modulation.adafm import AdaFMHeads, LowRankAdaFMHeads
from hmgan.modulation.class_nets import ClassMLP
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.tasks import build as tasks
from hmgan.train.tasks.base import Phase, Setup
from hmgan.train.trainer import Trainer
from hmgan.types import Batch

CLASS_DIM, LAZY = 64, 16
VARIANTS = {
    "float32": Compute(tf32=False),
    "tf32": Compute(),
    "bf16": Compute(precision="bf16"),
    "bf16-channels-last": Compute(precision="bf16", channels_last=True),
    "bf16-compile": Compute(precision="bf16", compile=True),
    "bf16-channels-last-compile": Compute(precision="bf16", channels_last=True, compile=True),
}
HEADS: dict[str, Callable[..., torch.nn.Module]] = {"full": AdaFMHeads, "low-rank": LowRankAdaFMHeads}
# What is compared first comes first. Compiled parts stay compiled in a network, so they come last.
PLAN: tuple[tuple[str, int, str], ...] = (
    *(("full", batch, name) for batch in (8, 16, 32) for name in ("tf32", "bf16", "bf16-channels-last")),
    ("full", 16, "float32"),
    *(("full", batch, "bf16-compile") for batch in (32, 8, 16)),
    ("full", 32, "bf16-channels-last-compile"),
    *(("low-rank", batch, name) for batch in (8, 32) for name in ("tf32", "bf16")),
)

PROFILED = ((8, "bf16"), (32, "bf16"), (32, "bf16-compile"))


class Case(NamedTuple):
    """One line of the result."""

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


def networks(heads: str, resolution: int, classes: int, device: torch.device) -> Networks:
    torch.manual_seed(0)
    source = StyleGAN1(resolution=resolution).to(device)
    generator = TransferGenerator(source, ClassMLP(classes, dim=CLASS_DIM), HEADS[heads](source, CLASS_DIM))
    return Networks(generator.to(device), StyleGAN1Discriminator(classes, resolution=resolution).to(device))


def trainer_of(pair: Networks, settings: Compute, batch: int, classes: int, runtime: Runtime) -> Trainer:
    for parameter in pair.discriminator.parameters():
        parameter.requires_grad_(True)
    experiment = Experiment(
        summary="benchmark",
        backbone=Choice(name="stylegan1"),
        discriminator=Choice(name="stylegan1"),
        contrastive=Choice(name="barlow-twins"),
        r1=R1(every=LAZY),
        task=Choice(name="gan", freeze=["from_rgb"]),
        compute=settings,
        train=Train(batch=batch),
    )
    return Trainer(tasks.build(Setup(experiment, *pair, None, classes, runtime)), runtime, Path(), lambda *_: None)


class Clock:
    """Seconds of work on the device, drained before and after."""

    def __init__(self, device: torch.device) -> None:
        self.synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def of(self, run: Callable[[], Any]) -> tuple[float, Any]:
        self.synchronize()
        began = time.perf_counter()
        result = run()
        self.synchronize()
        return time.perf_counter() - began, result


def measured(trainer: Trainer, heads: str, variant: str, images: Batch, repeats: int) -> Case:
    clock, phases = Clock(trainer.runtime.device), defaultdict(list)
    minimise = trainer._minimise

    def timed(phase: Phase, parts: Any) -> Any:
        seconds, result = clock.of(lambda: minimise(phase, parts))
        phases[phase.name, trainer.step % LAZY == 0].append(seconds)
        return result

    trainer._minimise = timed  # type: ignore[method-assign]
    whole: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(repeats + 2):
        for step in (0, 1, 2):  # one with R1, two without
            trainer.step = step
            seconds, _ = clock.of(lambda: trainer.take_step(images))
            if turn > 1:  # the first two make moments, choose algorithms and compile
                whole[step == 0].append(seconds)
        if turn == 1:
            phases.clear()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
    plain, with_r1 = statistics.median(whole[False]), statistics.median(whole[True])
    mean = (with_r1 + (LAZY - 1) * plain) / LAZY
    batch = len(images.labels)
    draws = [clock.of(lambda: trainer.task.generator.latents(trainer.draws().keys("gen"), 0.9))[0] for _ in range(3)]
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    trained = sum(p.numel() for p in trainer.task.generator.trained.parameters() if p.requires_grad)
    found = {name: statistics.median(phases[name, False]) for name in ("D", "G")}
    return Case(
        heads, batch, variant, batch / mean, mean, plain, with_r1, found["D"], found["G"], min(draws), peak, trained
    )


def kernels(trainer: Trainer, images: Batch) -> dict[str, Any]:
    """Where the device's time of one iteration without R1 goes."""
    trainer.step = 1
    trainer.take_step(images)
    torch.cuda.synchronize()
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        trainer.take_step(images)
        torch.cuda.synchronize()
    wall = time.perf_counter() - began
    rows = [e for e in profiled.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    rows.sort(key=lambda e: -e.self_device_time_total)
    busy = sum(e.self_device_time_total for e in rows) / 1e6
    return {
        "seconds": wall,
        "device_seconds": busy,
        "launches": sum(e.count for e in rows),
        "top": [[e.key[:120], round(e.self_device_time_total / 1e6, 6), e.count] for e in rows[:24]],
    }


def one(
    pair: Networks,
    heads: str,
    variant: str,
    images: Batch,
    classes: int,
    runtime: Runtime,
    repeats: int,
    wants_kernels: bool,
) -> tuple[Case, dict[str, Any]]:
    settings = VARIANTS[variant]
    with products(tf32=settings.tf32):
        trainer = trainer_of(pair, settings, len(images.labels), classes, runtime)
        case = measured(trainer, heads, variant, images, repeats)
        return case, kernels(trainer, images) if wants_kernels else {}


def said(case: Case) -> str:
    mean, with_r1, disc, gen, draws = (
        f"{1000 * seconds:.1f}"
        for seconds in (case.seconds, case.seconds_r1, case.seconds_disc, case.seconds_gen, case.seconds_draws)
    )
    return (
        f"{case.heads:8} batch {case.batch:<3} {case.variant:27} {case.images_per_second:7.1f} images/s  "
        f"{mean} ms (R1 {with_r1}, D {disc}, G {gen}, draws {draws})  {case.gib:.1f} GiB"
    )


def main(
    batch: Annotated[list[int] | None, typer.Option(help="measure these alone; 8, 16 and 32 if left out")] = None,
    variant: Annotated[list[str] | None, typer.Option(help=f"measure these alone: {', '.join(VARIANTS)}")] = None,
    heads: Annotated[str, typer.Option(help="measure these alone: full or low-rank")] = "",
    resolution: int = 256,
    classes: int = 3,
    repeats: Annotated[int, typer.Option(help="measured turns of three iterations")] = 3,
    minutes: Annotated[float, typer.Option(help="no variant begins after this")] = 3.3,
    file: Annotated[Path | None, typer.Option("--json", help="write the numbers here")] = None,
) -> None:
    """Measures training iterations on one GPU, or on the CPU where there is none."""
    began, console, runtime = time.monotonic(), Console(width=140), Runtime()
    plan = [
        case
        for case in PLAN
        if heads in ("", case[0]) and case[1] in (batch or [case[1]]) and case[2] in (variant or [case[2]])
    ]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    result: dict[str, Any] = {
        "device": device,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "resolution": resolution,
        "classes": classes,
        "cases": [],
        "kernels": {},
        "left_out": [],
        "failed": [],
    }
    made: dict[str, Networks] = {}
    for place, (of, size, name) in enumerate(plan):
        if time.monotonic() - began > 60 * minutes:
            result["left_out"] = [" ".join(map(str, case)) for case in plan[place:]]
            break
        if of not in made:
            made.clear()
            made[of] = networks(of, resolution, classes, runtime.device)
        images = Batch(
            torch.randint(256, (size, 3, resolution, resolution), dtype=torch.uint8),
            torch.arange(size) * classes // size,
        )
        wants_kernels = torch.cuda.is_available() and (size, name) in PROFILED
        try:
            case, found = one(made[of], of, name, images, classes, runtime, repeats, wants_kernels)
        except Exception as error:  # whatever one variant meets, the others are measured
            result["failed"].append([of, size, name, str(error)[:500]])
            console.print(f"{of} {size} {name}: {str(error)[:200]}", markup=False)
        else:
            result["cases"].append(case._asdict())
            if found:
                result["kernels"][f"{of} {size} {name}"] = found
            console.print(said(case))
        gc.collect()  # a trainer holds itself
        torch.cuda.empty_cache()
        if file is not None:
            file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"{device}, {time.monotonic() - began:.0f} s; left out: {result['left_out'] or 'nothing'}", markup=False
    )
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
