"""What a folded class costs beside its source: the same image, taking turns, the median of the ratios.

    python scripts/bench_folded.py                           # 64 px, StyleGAN1, batch 1; a minute or two on two cores
    python scripts/bench_folded.py --backbone stylegan2 --modulation adain --resolution 128

Folding leaves a plain source with other numbers, so that the ratio should be 1. What is counted is the time of the
processor that these passes had, not what others had of it meanwhile; a copy of the source takes its turns, too, and the
distance of its ratio from 1 is what the machine disturbs.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import typer

from hmgan import components
from hmgan.generators.fold import folded
from hmgan.generators.transfer import TransferGenerator

CLASSES, CLASS_DIM = 3, 64


def seconds(draw: Callable[[], object]) -> float:
    """Of one pass, of this process alone."""
    began = time.process_time()
    draw()
    return time.process_time() - began


def median(ratios: Sequence[float]) -> str:
    """With the interval that holds it in 95 of 100 cases, by the order of the ratios."""
    ranked, reach = sorted(ratios), 0.98 * math.sqrt(len(ratios))
    low, high = (ranked[round(len(ranked) / 2 + way * reach) - (way > 0)] for way in (-1, 1))
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


@torch.no_grad()
def main(
    backbone: str = "stylegan1",
    modulation: str = "adafm",
    resolution: int = 64,
    batch: int = 1,
    rounds: int = 100,
    threads: int = 1,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    source = components.build("backbone", backbone, resolution=resolution).eval()
    class_net = components.build("class-net", "mlp", CLASSES, dim=CLASS_DIM)
    heads = components.build("modulation", modulation, source, CLASS_DIM)
    plain, same = folded(TransferGenerator(source, class_net, heads).eval(), 1), copy.deepcopy(source)
    latents = source.latents(range(batch))
    passes = {"source": lambda: source(latents), "folded": lambda: plain(latents), "copy": lambda: same(latents)}
    for draw in passes.values():
        draw()  # the first takes longer
    taken = {name: [] for name in passes}
    names = list(passes)
    for turn in range(rounds):
        order = names[turn % 3 :] + names[: turn % 3]  # each is first, second and last as often
        for name in order if turn % 2 else order[::-1]:
            taken[name].append(seconds(passes[name]))
    ratios = {name: [x / y for x, y in zip(each, taken["source"], strict=True)] for name, each in taken.items()}
    print(
        f"{backbone} {resolution} px, {modulation}, batch {batch}, {rounds} rounds, {threads} threads: "
        f"source {statistics.median(taken['source']) * 1e3:.1f} ms; folded / source {median(ratios['folded'])}, "
        f"copy / source {median(ratios['copy'])}"
    )


if __name__ == "__main__":
    typer.run(main)
