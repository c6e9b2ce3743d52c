"""`hmgan sample` and `hmgan interpolate`: pictures from a trained generator."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from PIL import Image

from hmgan import rng
from hmgan.errors import UserError, unknown
from hmgan.generators.snapshot import load_generator
from hmgan.generators.transfer import TransferGenerator
from hmgan.pictures.class_images import class_images
from hmgan.pictures.images import grid, save_png
from hmgan.pictures.strips import interpolation_strip


def parse_seeds(text: str) -> list[int]:
    """`0,1,4-6` -> [0, 1, 4, 5, 6]. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--seeds wants numbers and ranges such as 0,1,4-6, got {text!r}")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return seeds


def parse_grid(text: str) -> tuple[int, int]:
    """`8x4` -> (8, 4), columns by rows. Raises UserError for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid wants COLUMNSxROWS such as 8x4, got {text!r}")
    return int(match[1]), int(match[2])


@torch.no_grad()
def draw_samples(
    network: Path, outdir: Path, seeds: str, names: list[str] | None, truncation: float, layout: str | None
) -> None:
    """One PNG per class and seed, or one grid per class. An image depends on its class and seed alone.

    Raises: UserError for an unknown class, or seeds and grid that do not match.
    """
    wanted, shape = parse_seeds(seeds), parse_grid(layout) if layout else None
    if shape and shape[0] * shape[1] != len(wanted):
        raise UserError(f"--grid {layout} has {shape[0] * shape[1]} places for {len(wanted)} seeds; make them equal")
    loaded = load_generator(network)
    for name in names or ():
        if name not in loaded.classes:
            raise unknown("class", name, loaded.classes)
    keys = [rng.key(seed, "sample", 0) for seed in wanted]
    latents = loaded.generator.latents(keys)
    for name in names or loaded.classes:
        images = class_images(loaded.generator, latents, loaded.classes.index(name), truncation)
        if shape:
            save_png(grid(images, shape[0]), outdir / f"{name}.png")
            print(outdir / f"{name}.png")
            continue
        for seed, image in zip(wanted, images, strict=True):
            save_png(Image.fromarray(image.permute(1, 2, 0).numpy()), outdir / f"{name}-seed{seed:04d}.png")
        print(f"{outdir / name}-seed*.png: {len(wanted)} images")


@torch.no_grad()
def draw_interpolation(network: Path, out: Path, seeds: str, steps: int) -> None:
    """A row per seed, a column per step on the way through all classes.

    Raises: UserError for a generator without classes.
    """
    if steps < 1:
        raise UserError(f"--steps counts pictures between classes and must be at least 1, got {steps}")
    loaded = load_generator(network)
    if not isinstance(loaded.generator, TransferGenerator):
        raise UserError(f"{network} is unconditional and has no classes to walk between; give a transfer run")
    save_png(interpolation_strip(loaded.generator, loaded.classes, steps=steps, seeds=parse_seeds(seeds)), out)
    print(out)
