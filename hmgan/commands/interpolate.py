"""`hmgan interpolate`: from class to class, the style held fixed."""

from __future__ import annotations

import torch

from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.options import InterpolateOptions, parse_seeds
from hmgan.pictures.grids import which
from hmgan.pictures.images import check_png, save_png
from hmgan.pictures.strips import fitting, interpolation_strip


@torch.no_grad()
def draw_interpolation(options: InterpolateOptions) -> None:
    """A row per seed, a column per step on the way through all classes.

    Raises: UserError for a generator without classes.
    """
    network, seeds = options.network, parse_seeds(options.seeds)
    check_png(options.out)
    loaded = load_generator(network)
    if loaded.transfer is None:
        raise UserError(f"{network} is unconditional and has no classes to walk between; give a transfer run")
    strip = interpolation_strip(loaded.transfer, loaded.classes, steps=options.steps, seeds=seeds)
    if left_out := which(fitting(loaded.classes, options.steps), loaded.classes):
        print(left_out)
    save_png(strip, options.out)
    print(options.out)
