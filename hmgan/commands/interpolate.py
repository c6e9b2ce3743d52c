"""`hmgan interpolate`: through classes, styles, or both, as a strip or a film."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from hmgan.commands.sample import device_of
from hmgan.errors import UserError
from hmgan.models.model import Model, load
from hmgan.models.walks import Walk
from hmgan.options.pictures import InterpolateOptions
from hmgan.options.shared import model_of, parse_seeds
from hmgan.pictures.animated import STILL, check_suffix, save_animation
from hmgan.pictures.grids import which
from hmgan.pictures.images import check_size, enlarged, grid, labelled_grid, save_png
from hmgan.pictures.strips import CELL, fitting, interpolation_strip

FILM_CELL = 128  # screen pixels that a small image of a film is enlarged to


def draw_interpolation(options: InterpolateOptions) -> None:
    """A row per walk: from class to class per seed, from seed to seed per class, or from both to both.

    Raises: UserError for a generator without classes to walk through, a way that leads nowhere, or an unknown suffix.
    """
    check_suffix(options.out)
    network, seeds = model_of(options.model, options.network), parse_seeds(options.seeds)
    model = load(network, device_of(options.device))
    for name in options.classes:
        model.label(name)
    if options.through != "z" and model.transfer is None:
        raise UserError(f"{network} is unconditional and has no classes to walk between; give a transfer run")
    plain = options.through == "classes" and not (options.classes or options.spherical)
    if plain and model.transfer is not None and options.out.suffix.lower() in STILL:
        strip = interpolation_strip(model.transfer, model.classes, steps=options.steps, seeds=seeds)
        if left_out := which(fitting(model.classes, options.steps), model.classes):
            print(left_out)
        save_png(strip, options.out)
    else:
        rows = walks(options, model, seeds)
        stations = max(max(len(walk.seeds), len(walk.classes)) for walk in rows.values())
        columns = (stations - 1) * options.steps + 1
        if options.out.suffix.lower() in STILL:
            check_size(columns, len(rows), model.resolution)
            drawn = {name: _stacked(model, walk, options.trunc) for name, walk in rows.items()}
            save_png(labelled_grid(drawn, max(1, CELL // model.resolution)), options.out)
        else:
            check_size(1, len(rows), model.resolution)
            save_animation(frames(model, list(rows.values()), options.trunc), options.out)
    print(options.out)


def walks(options: InterpolateOptions, model: Model, seeds: list[int]) -> dict[str, Walk]:
    """Row's name -> its walk. Raises UserError for a walk without a way."""
    classes, way = options.classes or list(model.classes), (options.steps, options.spherical)
    if options.through == "classes":
        return {f"seed {seed}": Walk.between(seed, classes, *way) for seed in seeds}
    if options.through == "z":
        return {name: Walk.between(seeds, name, *way) for name in classes}
    return {"": Walk.between(seeds, classes, *way)}


def frames(model: Model, rows: list[Walk], truncation: float) -> Iterator[Image.Image]:
    """All walks at once, one above the other."""
    scale = max(1, FILM_CELL // model.resolution)
    for images in zip(*(model.walked(walk, truncation) for walk in rows), strict=True):
        images_NCHW = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        yield grid(enlarged(images_NCHW, scale), 1, pad=scale if len(rows) > 1 else 0)


def _stacked(model: Model, walk: Walk, truncation: float) -> torch.Tensor:
    return torch.from_numpy(np.stack(list(model.walked(walk, truncation)))).permute(0, 3, 1, 2)
