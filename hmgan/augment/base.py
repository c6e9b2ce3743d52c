"""What an augmentation of D's images is given, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hmgan import ahead, host, rng


class Augment(Protocol):
    """A module whose adaptive state is in its buffers, which checkpoints hold.

    D sees reals and fakes through it in both phases, and it must be differentiable in the images: G learns through it,
    and R1 differentiates with respect to the images before it, as the reference code of ADA and DiffAugment does.
    """

    adapts: bool  # whether `observe` uses the logits

    def __call__(self, images_BCHW: Tensor, keys: Sequence[int]) -> Tensor:
        """Images in about [-1, 1] -> augmented ones, each a function of its own key."""

    def observe(self, real_B: Tensor, step: int) -> dict[str, Tensor]:
        """Takes D's logits for the global batch of reals after every D pass; returns what the status line may show."""


def uniforms(keys: Sequence[int], width: int, device: torch.device) -> Tensor:
    """[B, width] uniforms on [0, 1) on the device, row i a function of key i alone."""
    return ahead.drawn(_uniforms, keys, width, device)


def _uniforms(keys: Sequence[int], width: int, device: torch.device) -> Tensor:
    return host.sent(rng.uniform_rows(keys, width), device)
