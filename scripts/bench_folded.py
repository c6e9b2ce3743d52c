"""What a folded class costs beside its source: the same images, taking turns, the median of the pairs' ratios.

    python scripts/bench_folded.py                           # 64 px, StyleGAN1, batch 8; a minute or two on two cores
    python scripts/bench_folded.py --backbone stylegan2 --modulation adain --resolution 128

Folding leaves a plain source with other numbers, so that the ratio should be 1; a busy machine disturbs both of a pair.
Each pair is drawn in both orders.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import typer

from hmgan import components
from hmgan.generators.fold import folded
from hmgan.generators.transfer import TransferGenerator

CLASSES, CLASS_DIM = 3, 64


def seconds(draw: Callable[[], object]) -> float:
    """Of one pass."""
    began = time.perf_counter()
    draw()
    return time.perf_counter() - began


@torch.no_grad()
def main(
    backbone: str = "stylegan1",
    modulation: str = "adafm",
    resolution: int = 64,
    batch: int = 8,
    pairs: int = 30,
    threads: int = 1,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    source = components.build("backbone", backbone, resolution=resolution).eval()
    class_net = components.build("class-net", "mlp", CLASSES, dim=CLASS_DIM)
    heads = components.build("modulation", modulation, source, CLASS_DIM)
    plain = folded(TransferGenerator(source, class_net, heads).eval(), 1)
    latents = source.latents(range(batch))
    passes = {"source": lambda: source(latents), "folded": lambda: plain(latents)}
    for draw in passes.values():
        draw()  # the first takes longer
    ratios, taken = [], {name: [] for name in passes}
    for pair in range(pairs):
        order = list(passes) if pair % 2 else list(passes)[::-1]
        found = {name: seconds(passes[name]) for name in order}
        ratios.append(found["folded"] / found["source"])
        for name, value in found.items():
            taken[name].append(value)
    low, middle, high = statistics.quantiles(ratios, n=4)
    told = ", ".join(f"{name} {statistics.median(each) * 1e3:.1f} ms" for name, each in taken.items())
    what = f"{backbone} {resolution} px, {modulation}, batch {batch}, {pairs} pairs"
    print(f"{what}: {told}; folded / source {middle:.3f} (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    typer.run(main)
