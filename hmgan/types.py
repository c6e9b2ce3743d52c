"""The types that all packages share. B batch, R rows, C channels, O/I out and in, H/W pixels, Z latent, F features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from annotated_types import Ge, Gt, Interval
from torch import Tensor

# Bounds of settings: what is out of them is refused with the setting's name.
Weight = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]


class Batch(NamedTuple):
    """Training images as they leave the loader."""

    images: Tensor  # [B, 3, H, W] uint8
    labels: Tensor  # [B] int64


class Latents(NamedTuple):
    """Everything random about a generated image."""

    z: Tensor  # [B, Z]
    noise: tuple[Tensor, ...]  # one [B, 1, H, W] per block
    z_mix: Tensor  # [B, Z], the second style of style mixing
    crossover_B: Tensor  # [B] int64, the first block that takes z_mix; the number of blocks where there is no mixing
    mixes: bool | None = None  # whether any sample mixes; None: only crossover_B says so


class GenOut(NamedTuple):
    """What G returns."""

    image: Tensor  # [B, 3, H, W] in about [-1, 1]
    features: Sequence[Tensor]  # one [B, C, H, W] per block, for self-alignment (Eq. 6)
    styles: tuple[Tensor, ...] = ()  # [B, W] each, in the order in which samples were computed, for path lengths


class DiscOut(NamedTuple):
    """What D returns."""

    logit: Tensor  # [B], of each sample's own class
    embedding: Tensor  # [B, F], the features before the last layer
    class_logits: Tensor | None = None  # [B, N], or [B, 2 N], of a head that has logits of classes beside it


class Site(NamedTuple):
    """A layer that can be modulated, as it acts: gain applied, a kernel as [O, I, k, k], a linear weight as [O, I]."""

    weight: Tensor  # [O, I, k, k] or [O, I]
    bias: Tensor  # [O]
    gain: float  # of the equalised learning rate, inside `weight`; heads predict in units of it
    axes: tuple[int, ...] = (2, 3)  # of the weight, over which it is normalised: a kernel's taps, or a row's inputs
    additive: bool = False  # whether a class adds to the weight instead


UNLABELLED = "all"  # the one class of images without labels


Terms = dict[str, tuple[float, Tensor]]  # of a loss: name -> weight and value
