"""What decides a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hmgan import rng

Noise = Literal["random", "const", "none"]
NOISES: tuple[Noise, ...] = get_args(Noise)
Towards = Literal["mean", "class"]
CENTRES: tuple[Towards, ...] = get_args(Towards)
LEVELS = ("coarse", "middle", "fine")


@dataclass(frozen=True)
class Look:
    """A picture is a function of its model and of this alone.

    Args:
        seeds: whose styles the blocks take, from 4 px up; the last seed goes on to the last block.
        classes: labels and their weights, which add up to 1; none: the source.
        truncation: 1 leaves styles as they are, 0 puts the centre in their place.
        noise: "random" is the first seed's own, "const" the same for every seed, "none" leaves it out.
        towards: the centre: "mean" of all styles, or "class", of those that the class's best images have.
    """

    seeds: tuple[int, ...]
    classes: tuple[tuple[int, float], ...] = ()
    truncation: float = 1.0
    noise: Noise = "random"
    towards: Towards = "mean"


def spread(seeds: Sequence[int], blocks: int) -> tuple[int, ...]:
    """One seed per level, coarse first -> one per block: the blocks in thirds, the finest the largest."""
    return tuple(seeds[min(len(seeds) - 1, block * len(seeds) // blocks)] for block in range(blocks))


def key_of(seed: int) -> int:
    """Of the randomness of a seed's image."""
    return rng.key(seed, "sample", 0)
