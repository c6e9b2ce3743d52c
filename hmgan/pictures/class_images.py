"""Images of a class, drawn by a generator, as people and extractors see them."""

from __future__ import annotations

import torch
from torch import Tensor

from hmgan.generators.base import Generator
from hmgan.pictures.images import to_uint8
from hmgan.types import Latents


@torch.no_grad()
def class_images(generator: Generator, latents: Latents, label: int, truncation: float = 1.0) -> Tensor:
    """[B, 3, H, W] uint8, on the generator's device."""
    labels_B = torch.full((len(latents.z),), label, device=latents.z.device)
    return to_uint8(generator(latents, labels_B, truncation).image)
