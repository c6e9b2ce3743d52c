"""`hmgan sample`: pictures from a trained generator."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from PIL import Image

from hmgan import rng
from hmgan.errors import UserError, unknown
from hmgan.files import file_names
from hmgan.generators.snapshot import load_generator
from hmgan.options import SampleOptions, parse_seeds
from hmgan.pictures.class_images import best_device, drawn_by_keys
from hmgan.pictures.images import check_size, pasted, save_png


def parse_grid(text: str) -> tuple[int, int]:
    """`8x4` -> (8, 4), columns by rows. Raises UserError for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid wants COLUMNSxROWS such as 8x4, got {text!r}")
    return int(match[1]), int(match[2])


def keys(seeds: Sequence[int]) -> list[int]:
    """Of the images of these seeds."""
    return [rng.key(seed, "sample", 0) for seed in seeds]


@torch.no_grad()
def draw_samples(options: SampleOptions) -> None:
    """One PNG per class and seed, or one grid per class. An image depends on its class and seed alone.

    Raises: UserError for an unknown class, or seeds and grid that do not match.
    """
    seeds, outdir = parse_seeds(options.seeds), options.outdir
    columns, rows = parse_grid(options.grid) if options.grid else (1, len(seeds))
    if columns * rows != len(seeds):
        raise UserError(f"--grid {columns}x{rows} has {columns * rows} places for {len(seeds)} seeds; make them equal")
    loaded = load_generator(options.network)
    for name in options.classes:
        if name not in loaded.classes:
            raise unknown("class", name, loaded.classes)
    generator, files = loaded.generator.to(best_device()), file_names(loaded.classes)
    if options.grid:
        check_size(columns, rows, generator.resolution)
    for name in options.classes or loaded.classes:
        file, label = outdir / files[name], loaded.classes.index(name)
        drawn = drawn_by_keys(generator, keys(seeds), label, options.trunc)
        if options.grid:
            save_png(pasted(drawn, len(seeds), columns), file.with_name(f"{file.name}.png"))
            print(f"{file}.png")
            continue
        for seed, image in zip(seeds, drawn, strict=True):
            save_png(Image.fromarray(image.permute(1, 2, 0).numpy()), file.with_name(f"{file.name}-seed{seed:04d}.png"))
        print(f"{file}-seed*.png: {len(seeds)} images")
