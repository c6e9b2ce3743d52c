"""D's way down with nine taps on boxed maps, against sixteen without: both forms in turn, in one process on one thread.

    python scripts/bench_taps.py                     # 64 channels at 32 and 64 px, batch 8; two minutes
    python scripts/bench_taps.py --channels 512 --batch 4 --turns 9

Each ratio is the median over pairs of turns, each pair one form right after the other; quartiles beside it. Seconds are
this thread's own, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated
from unittest.mock import patch

import torch
import torch.nn.functional as F
import typer
from bench_step_timing import keep_freed_memory
from row_c import widths_of
from torch import Tensor

from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.layers.equalized import EqualConv2d, shared_kernels
from hmgan.losses.r1 import r1_penalty

nine_taps = EqualConv2d.forward
effective = EqualConv2d._effective_weight


def sixteen_taps(self: EqualConv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, self.kernel(), self.bias, stride=2 if self.down else 1, padding=self.padding)


def shifted(self: EqualConv2d) -> Tensor:
    """The mean of a 3x3's four one-pixel shifts, by one product with the shifts of every tap."""
    if not self.down:
        return effective(self)
    taps = F.pad(torch.eye(9).view(-1, 3, 3), (1, 1, 1, 1))
    shifts = taps[:, 1:, 1:] + taps[:, :-1, 1:] + taps[:, 1:, :-1] + taps[:, :-1, :-1]
    return (self.weight.flatten(-2) @ (shifts.flatten(1) * self.gain / 4)).unflatten(-1, (4, 4))


FORMS = ((sixteen_taps, shifted), (nine_taps, effective))


def disc_pass(discriminator: Discriminator, images: Tensor, labels: Tensor, penalised: bool) -> None:
    """D's pass over a batch and its backward; with R1, to the second derivative."""
    discriminator.zero_grad(set_to_none=True)
    with shared_kernels():
        logit = discriminator(images, labels).logit
        loss = F.softplus(-logit).mean()
        (loss + r1_penalty(logit, images) if penalised else loss).backward()


def step_of(resolution: int, channels: int, batch: int, penalised: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    discriminator = StyleGAN1Discriminator(3, resolution=resolution, channels=widths_of(resolution, channels))
    images = torch.randn(batch, 3, resolution, resolution, requires_grad=penalised)
    return partial(disc_pass, discriminator, images, torch.arange(batch) % 3, penalised)


def seconds(step: Callable[[], None], form: int) -> float:
    forward, weight = FORMS[form]
    with patch.object(EqualConv2d, "forward", forward), patch.object(EqualConv2d, "_effective_weight", weight):
        began = time.thread_time()
        step()
        return time.thread_time() - began


def main(
    resolution: Annotated[list[int] | None, typer.Option(help="32 and 64 if left out")] = None,
    channels: int = 64,
    batch: int = 8,
    turns: int = 31,
) -> None:
    """Prints the milliseconds of both forms, and nine taps over sixteen."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for pixels in resolution or (32, 64):
        for penalised in (False, True):
            step = step_of(pixels, channels, batch, penalised)
            pairs = []
            for turn in range(turns + 2):
                order = (0, 1) if turn % 2 else (1, 0)
                pairs.append([took for _, took in sorted((form, seconds(step, form)) for form in order)])
            sixteen, nine = (1e3 * statistics.median(times) for times in zip(*pairs[2:], strict=True))
            low, middle, high = statistics.quantiles(b / a for a, b in pairs[2:])
            kind = "with R1" if penalised else "without R1"
            print(
                f"{pixels} px, {channels} channels, batch {batch}, {kind}: {sixteen:.1f} ms and {nine:.1f} ms, "
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
