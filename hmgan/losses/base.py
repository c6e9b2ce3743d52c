"""What a penalty on a generator that is being fine-tuned is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from hmgan.types import GenOut, Latents


class Transferred(NamedTuple):
    """Both networks as they came, frozen, and the generator that trains."""

    source: Any  # a Backbone and an nn.Module
    discriminator: nn.Module  # with one class
    adapted: nn.Module


class Adaptation(NamedTuple):
    """One G phase: its latents, what G made of them, and what a penalty needs besides."""

    latents: Latents
    out: GenOut
    key: int  # a random number of the step, the same on every rank
    gather: Callable[[Tensor], Tensor]  # [B, ...] of this rank -> of all ranks


class GenPenalty(Protocol):
    """Built from `Transferred`; `least` is the smallest global batch that it can be taken over."""

    least: int

    def __call__(self, phase: Adaptation) -> Tensor: ...
