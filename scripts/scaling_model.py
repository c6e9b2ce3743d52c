"""Step time of the 256 px model at 8, 64 and 512 GPUs, from one GPU's measured times and stated link speeds.

    python scripts/bench_gpu.py --json gpu.json      # on one GPU
    python scripts/scaling_model.py gpu.json

With b images on each of N GPUs, g to a machine, n = N / g machines, and S bytes averaged over all ranks:

    T(N)        = T_1(b) + T_reduce(S_G, N) + T_reduce(S_D, N) + T_rows(N)                                       (1)
    T_reduce(S) = 2 (g - 1)/g S / B_in + 2 (n - 1)/n S / (g B_out) + L(N)                                        (2)
    T_rows(N)   = calls L(N) + 3 (N - 1)/N R / (B_in if n = 1 else B_out)                                        (3)
    L(N)        = 2 log2(g) l_in + 2 log2(n) l_out                                                               (4)

T_1 is measured, everything of a step but communication. (2) is a reduction within each machine, then between machines,
each GPU with its own share, and back. S = 4 bytes per trained parameter: gradients are averaged in float32, one flat
tensor per network and step, after the backward pass and not during it, so that nothing is subtracted for overlap.
R are the rows that losses compare, gathered once and reduced, which is twice, as gradients: three logits and four
embeddings of F numbers of all N b images. Above 64 ranks Barlow Twins reduces sums, and R is logits alone: for each of
two pairs of views, there and back as gradients, T_reduce of 3 F and of (F + 2) F numbers is added. B is bandwidth per
GPU, one way, l the latency of a hop.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.modulation.adafm import AdaFMHeads, LowRankAdaFMHeads
from hmgan.modulation.class_nets import ClassMLP
from hmgan.train.tasks.gan import MANY_RANKS

HEADS = {"full": AdaFMHeads, "low-rank": LowRankAdaFMHeads}
EMBEDDING = 512  # F


class Links(NamedTuple):
    """Bytes per second and GPU one way, and seconds per hop, within a machine and between machines."""

    name: str
    gpus: int
    inside: float
    outside: float
    hop_inside: float
    hop_outside: float


# Four fifths of what a link is sold as: H100's NVLink 450 GB/s one way; 400 Gb/s for each GPU, or 100 Gb/s for eight.
FABRICS = (
    Links("400 Gb/s per GPU", 8, 0.8 * 450e9, 0.8 * 50e9, 3e-6, 10e-6),
    Links("100 Gb/s per machine", 8, 0.8 * 450e9, 0.8 * 12.5e9 / 8, 3e-6, 30e-6),
)


class Step(NamedTuple):
    """Seconds."""

    compute: float
    reduce_gen: float
    reduce_disc: float
    rows: float

    @property
    def total(self) -> float:
        return sum(self)


def latency(links: Links, ranks: int) -> float:
    """Eq. 4."""
    machines = math.ceil(ranks / links.gpus)
    return 2 * math.log2(min(ranks, links.gpus)) * links.hop_inside + 2 * math.log2(machines) * links.hop_outside


def reduction(size: float, links: Links, ranks: int) -> float:
    """Eq. 2."""
    inside, machines = min(ranks, links.gpus), math.ceil(ranks / links.gpus)
    within = 2 * (inside - 1) / inside * size / links.inside
    between = 2 * (machines - 1) / machines * size / (inside * links.outside)
    return within + between + latency(links, ranks)


def rows(batch: int, links: Links, ranks: int) -> float:
    """Eq. 3: D's and G's logits, and D's views; each gather has its gradient's reduction."""
    views = 0 if ranks > MANY_RANKS else 4
    size = 4 * ranks * batch * (3 + views * EMBEDDING)
    speed = links.inside if ranks <= links.gpus else links.outside
    gathers = 2 * (2 + views) * latency(links, ranks) + 3 * (ranks - 1) / ranks * size / speed
    return gathers if views else gathers + sums(links, ranks)


def sums(links: Links, ranks: int) -> float:
    """Of Barlow Twins, for both pairs of views, with their gradients."""
    return 2 * 2 * sum(reduction(4 * numbers, links, ranks) for numbers in (3 * EMBEDDING, (EMBEDDING + 2) * EMBEDDING))


def sizes(heads: str, resolution: int, classes: int) -> tuple[int, int]:
    """Bytes of the gradients of G and of D, whose from-RGB is frozen."""
    with torch.device("meta"):
        source = StyleGAN1(resolution=resolution)
        parts = (ClassMLP(classes, dim=64), HEADS[heads](source, 64))
        discriminator = StyleGAN1Discriminator(classes, resolution=resolution)
    frozen = sum(p.numel() for p in discriminator.from_rgb.parameters())
    disc = sum(p.numel() for p in discriminator.parameters()) - frozen
    return 4 * sum(p.numel() for part in parts for p in part.parameters()), 4 * disc


def main(
    measured: Annotated[Path, typer.Argument(help="what bench_gpu.py wrote")],
    variant: str = "bf16",
    ranks: Annotated[list[int] | None, typer.Option(help="8, 64 and 512 if left out")] = None,
) -> None:
    """Prints a Markdown table."""
    found, console = json.loads(measured.read_text(encoding="utf-8")), Console(width=200)
    console.print(f"{found['device']}, torch {found['torch']}, {variant}; milliseconds\n", highlight=False)
    console.print(
        "| heads | batch per GPU | links | GPUs | T_1 | reduce G | reduce D | rows | step | images/s | efficiency |"
    )
    console.print("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for case in found["cases"]:
        if case["variant"] != variant:
            continue
        gen, disc = sizes(case["heads"], found["resolution"], found["classes"])
        for links in FABRICS:
            for count in ranks or [8, 64, 512]:
                step = Step(
                    case["seconds"],
                    reduction(gen, links, count),
                    reduction(disc, links, count),
                    rows(case["batch"], links, count),
                )
                label = f"| {case['heads']} | {case['batch']} | {links.name} | {count} |"
                cells = [f"{1000 * seconds:.1f}" for seconds in (*step, step.total)]
                cells += [f"{count * case['batch'] / step.total:,.0f}", f"{case['seconds'] / step.total:.2f}"]
                console.print(f"{label} {' | '.join(cells)} |", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
