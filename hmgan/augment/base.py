"""What an augmentation of D's images is given, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Augment(Protocol):
    """A module: what it adapts is in its buffers, which checkpoints hold.

    D sees reals and fakes through it in both phases, so it must be differentiable in its images: G learns through it,
    and R1's gradient is with respect to the images before it, as in the reference code of ADA and of DiffAugment.
    """

    adapts: bool  # whether `observe` has a use for the logits

    def __call__(self, images_BCHW: Tensor, keys: Sequence[int]) -> Tensor:
        """Images in about [-1, 1] -> augmented ones, each a function of its own key."""

    def observe(self, real_B: Tensor, step: int) -> dict[str, Tensor]:
        """D's logits of the global batch of reals, after every D pass; what a status line may show."""
