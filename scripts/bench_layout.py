"""D's pass in both memory layouts and precisions, in turn, in one process on one thread, over contiguous float32.

    python scripts/bench_layout.py

Each ratio is the median over turns, one pass right after the other, with quartiles beside it. Seconds are this thread's
own, so that a busy machine disturbs them little. `Discriminator.cpu_layout` is what it finds faster. Only CPUs that
multiply bf16 by themselves (Intel's AMX) gain by it; R1's derivatives are float32 in every run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import typer
from bench_step_timing import keep_freed_memory
from bench_taps import disc_pass
from row_c import widths_of

from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.biggan import BigGANDiscriminator
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.discriminators.stylegan2 import StyleGAN2Discriminator


class Variant(NamedTuple):
    """How a pass is computed."""

    name: str
    layout: torch.memory_format
    bf16: bool


VARIANTS = (
    Variant("float32, contiguous", torch.contiguous_format, False),
    Variant("float32, channels last", torch.channels_last, False),
    Variant("bf16, contiguous", torch.contiguous_format, True),
    Variant("bf16, channels last", torch.channels_last, True),
)
SMALL = [96, 64, 32, 16]  # fashion-32's
CASES: tuple[tuple[str, Callable[[], Discriminator], int, int], ...] = (
    ("stylegan1, 32 px, 16 to 96 channels", partial(StyleGAN1Discriminator, 3, resolution=32, channels=SMALL), 32, 16),
    ("stylegan1, 64 px, 64", partial(StyleGAN1Discriminator, 3, resolution=64, channels=widths_of(64, 64)), 64, 8),
    ("stylegan1, 64 px, 512", partial(StyleGAN1Discriminator, 3, resolution=64, channels=widths_of(64, 512)), 64, 4),
    ("stylegan2, 32 px, 16 to 96", partial(StyleGAN2Discriminator, 3, resolution=32, channels=SMALL), 32, 16),
    ("stylegan2, 64 px, 64", partial(StyleGAN2Discriminator, 3, resolution=64, channels=widths_of(64, 64)), 64, 8),
    ("biggan, 32 px", partial(BigGANDiscriminator, 3, resolution=32), 32, 16),
)


def step_of(
    make: Callable[[], Discriminator], resolution: int, batch: int, penalised: bool
) -> Callable[[Variant], float]:
    """Variant -> this thread's seconds of D's pass."""
    torch.manual_seed(0)
    discriminator = make()
    images, labels = torch.randn(batch, 3, resolution, resolution), torch.arange(batch) % 3

    def step(variant: Variant) -> float:
        shown = images.contiguous(memory_format=variant.layout).requires_grad_(penalised)
        began = time.thread_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
            disc_pass(discriminator, shown, labels, penalised)
        return time.thread_time() - began

    return step


def main(turns: int = 7) -> None:
    """Prints the milliseconds of contiguous float32, and the others over it."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for name, make, resolution, batch in CASES:
        for penalised in (False, True):
            step = step_of(make, resolution, batch, penalised)
            variants = [variant for variant in VARIANTS if not (penalised and variant.bf16)]
            rounds = []
            for turn in range(turns + 1):
                order = variants if turn % 2 else variants[::-1]
                took = {variant: step(variant) for variant in order}
                rounds.append([took[variant] for variant in variants])
            plain, *others = zip(*rounds[1:], strict=True)
            kind = "with R1" if penalised else "without R1"
            print(f"{name}, batch {batch}, {kind}: {1e3 * statistics.median(plain):.1f} ms", flush=True)
            for variant, seconds in zip(variants[1:], others, strict=True):
                low, middle, high = statistics.quantiles(b / a for a, b in zip(plain, seconds, strict=True))
                print(f"    {variant.name}: {middle:.2f} ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    typer.run(main)
