"""What a source can vary: the rank of its styles w, and what noise and truncation do. S samples, W style width."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmgan import rng
from hmgan.layers.backbone import Backbone
from hmgan.metrics.diversity import effective_rank, intra_class_distance

IMAGES, SEED, TRUNCATED = 64, 0, 0.5


class Varied(NamedTuple):
    """A source's rank, and mean distances of its images in grey levels (0..255, root mean square over pixels)."""

    rank: float  # effective rank of w
    width: int  # W
    images: float  # of images of different z and noise
    noise: float  # of images of one w and different noise
    truncated: float  # of the first images, truncated by TRUNCATED


def style_rank(backbone: Backbone) -> tuple[float, int]:
    """The effective rank of a generator's styles over fixed draws, and how many numbers a style has."""
    samples_SW = backbone.style_samples().detach().cpu()
    return effective_rank(samples_SW), samples_SW.shape[1]


@torch.no_grad()
def varied(backbone: Backbone) -> Varied:
    """Measures a source that is in evaluation mode."""
    latents = backbone.latents(rng.keys(SEED, "doctor", 0, IMAGES))
    whole = _distance(backbone(latents).image)
    truncated = _distance(backbone(latents, truncation=TRUNCATED).image)
    one = [style[:1].expand_as(style) for style in backbone.styles(latents)]
    noise = _distance(backbone.synthesise(one, latents.noise).image)
    return Varied(*style_rank(backbone), whole, noise, truncated)


def _distance(images_S3HW: Tensor) -> float:
    """The mean over all pairs."""
    pixels = images_S3HW.flatten(1).double().clamp(-1, 1) * 127.5
    return intra_class_distance(pixels) / pixels.shape[1] ** 0.5
