"""Path-length regularisation of G (Karras et al. 2020a, section 3.2). B batch, W style width, L layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hmgan import rng

DECAY = 0.01


class PathLength(nn.Module):
    """(|J^T y| - a)^2: a step in w moves images equally far wherever it is made, a the running mean length.

    J is the image's derivative by the style, y a random image.

    Args:
        weight: in G's loss.
        every: G steps between two of them, each of which counts so many times.
    """

    mean: Tensor

    def __init__(self, weight: float, every: int) -> None:
        super().__init__()
        self.weight, self.every = weight, every
        self.register_buffer("mean", torch.zeros([]))

    def due(self, step: int) -> bool:
        return self.weight > 0 and step % self.every == 0

    def forward(self, lengths_B: Tensor) -> Tensor:
        mean = self.mean.lerp(lengths_B.mean().to(self.mean), DECAY)
        self.mean.copy_(mean.detach())
        return (lengths_B - mean).square().mean()


def path_lengths(image: Tensor, styles: Sequence[Tensor], keys: Sequence[int]) -> Tensor:
    """[B], |J^T y|: the root of the mean over layers of the squared gradient of <image, y> / sqrt(H W) by its style.

    Args:
        styles: [B, W] for each of L layers, which `image` was made from.
        keys: of the random images.
    """
    pixels = image.shape[2] * image.shape[3]
    noise = rng.normal_rows(keys, image[0].numel()).to(image).view_as(image) / math.sqrt(pixels)
    gradients = torch.autograd.grad((image * noise).sum(), styles, create_graph=True, materialize_grads=True)
    return torch.stack(gradients).square().sum(2).mean(0).sqrt()
