"""The grids of a run: a row per class, or a square."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from hmgan.generators.base import Generator
from hmgan.pictures.class_images import drawn_by_keys
from hmgan.pictures.images import enlarged, grid, labelled_grid

GRID_COLUMNS, GRID_SEED = 8, 2_000_000
MOST_ROWS, MOST_HEIGHT = 32, 8192  # of a grid that a person can look at; pixels


def shown(classes: Sequence[str], resolution: int) -> Sequence[str]:
    """The first classes, as many as a picture has rows for."""
    return classes[: max(1, min(MOST_ROWS, MOST_HEIGHT // resolution))]


def which(some: Sequence[str], classes: Sequence[str]) -> str:
    """What a picture leaves out, as a line; nothing where it has all."""
    few = len(some) < len(classes)
    return f"pictures show the first {len(some)} of {len(classes):,} classes" if few else ""


def fake_rows(generator: Generator, classes: tuple[str, ...], columns: int = GRID_COLUMNS) -> dict[str, torch.Tensor]:
    """Class -> [columns, 3, H, W] uint8; column j has the same latents in every row. Of one class, columns^2 images.

    Only the classes that a picture has rows for.
    """
    count = columns if len(classes) > 1 else columns * columns
    keys, some = range(GRID_SEED, GRID_SEED + count), shown(classes, generator.resolution)
    return {name: torch.stack(list(drawn_by_keys(generator, keys, label))) for label, name in enumerate(some)}


def one_photograph(rows: dict[str, torch.Tensor], columns: int = GRID_COLUMNS) -> dict[str, torch.Tensor]:
    """Class -> [columns, 3, H, W]: of [N, 3, H, W] images the one nearest to their mean, again and again."""
    found = {}
    for name, images in rows.items():
        gaps_N = (images.float() - images.float().mean(dim=0)).square().sum((1, 2, 3))
        found[name] = images[gaps_N.argmin()].expand(columns, -1, -1, -1)
    return found


def class_grid(rows: dict[str, torch.Tensor]) -> Image.Image:
    """One labelled row per class, or a square of images where there is one class."""
    scale = max(1, 64 // next(iter(rows.values())).shape[-1])
    if len(rows) > 1:
        return labelled_grid(rows, scale)
    (images,) = rows.values()
    return grid(enlarged(images, scale), GRID_COLUMNS, pad=2 * scale)
