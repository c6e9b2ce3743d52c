"""`hmgan interpolate`: from class to class, the style held fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.pictures.images import save_png
from hmgan.pictures.strips import interpolation_strip


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateOptions:
    """What `hmgan interpolate` was asked for.

    Args:
        out: the picture.
        seeds: one row each.
        steps: pictures from one class to the next.
    """

    network: Path
    out: Path
    seeds: Sequence[int]
    steps: int


@torch.no_grad()
def draw_interpolation(options: InterpolateOptions) -> None:
    """A row per seed, a column per step on the way through all classes.

    Raises: UserError for a generator without classes.
    """
    network, steps = options.network, options.steps
    if steps < 1:
        raise UserError(f"--steps counts pictures between classes and must be at least 1, got {steps}")
    loaded = load_generator(network)
    if loaded.transfer is None:
        raise UserError(f"{network} is unconditional and has no classes to walk between; give a transfer run")
    strip = interpolation_strip(loaded.transfer, loaded.classes, steps=steps, seeds=options.seeds)
    save_png(strip, options.out)
    print(options.out)
