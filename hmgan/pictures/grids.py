"""The grids of a run: a row per class, or a square."""

from __future__ import annotations

import torch
from PIL import Image

from hmgan.generators.base import Generator
from hmgan.pictures.class_images import class_images
from hmgan.pictures.images import enlarged, grid, labelled_grid

GRID_COLUMNS, GRID_SEED = 8, 2_000_000


def fake_rows(generator: Generator, classes: tuple[str, ...], columns: int = GRID_COLUMNS) -> dict[str, torch.Tensor]:
    """Class -> [columns, 3, H, W] uint8; column j has the same latents in every row. Of one class, columns^2 images."""
    count = columns if len(classes) > 1 else columns * columns
    latents = generator.latents(range(GRID_SEED, GRID_SEED + count))
    return {name: class_images(generator, latents, label).cpu() for label, name in enumerate(classes)}


def class_grid(rows: dict[str, torch.Tensor]) -> Image.Image:
    """One labelled row per class, or a square of images where there is one class."""
    scale = max(1, 64 // next(iter(rows.values())).shape[-1])
    if len(rows) > 1:
        return labelled_grid(rows, scale)
    (images,) = rows.values()
    return grid(enlarged(images, scale), GRID_COLUMNS, pad=2 * scale)
