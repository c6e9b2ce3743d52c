"""Images of a class, drawn by a generator, as people and extractors see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hmgan.generators.base import Generator
from hmgan.pictures.images import to_uint8
from hmgan.types import Latents

AT_ONCE, PIXELS_AT_ONCE = 64, 2**20  # images that are drawn together, at most


@torch.no_grad()
def class_images(generator: Generator, latents: Latents, label: int, truncation: float = 1.0) -> Tensor:
    """[B, 3, H, W] uint8, on the generator's device."""
    labels_B = torch.full((len(latents.z),), label, device=latents.z.device)
    return to_uint8(generator(latents, labels_B, truncation).image)


def drawn_by_keys(generator: Generator, keys: Sequence[int], label: int, truncation: float = 1.0) -> Iterator[Tensor]:
    """uint8 [3, H, W] on the CPU for each key, drawn in batches of a bounded size."""
    batch = min(AT_ONCE, max(1, PIXELS_AT_ONCE // generator.resolution**2))
    for first in range(0, len(keys), batch):
        yield from class_images(generator, generator.latents(keys[first : first + batch]), label, truncation).cpu()


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
