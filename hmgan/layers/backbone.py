"""What a source generator offers to everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from hmgan.layers.edits import SOURCE, Edits
from hmgan.types import GenOut, Latents, Site


class ConvSite(Protocol):
    def site(self) -> Site: ...


class NormSite(Protocol):
    channels: int

    @property
    def style(self) -> Callable[[Tensor], Tensor]: ...  # w [N, W] -> scale and shift [N, 2 C]


class Backbone(Protocol):
    """A generator with named sites. Without edits it is the source, exactly."""

    resolution: int
    batch_statistics: bool  # whether samples of a batch depend on each other while it trains
    label_dim: int  # numbers of a class that its mapping takes beside z; usually none

    def sites(self) -> Mapping[str, ConvSite]: ...
    def norms(self) -> Mapping[str, NormSite]: ...
    def compilable(self) -> Sequence[nn.Module]: ...  # parts whose shapes a batch's classes leave alone
    # What each class of a conditional source adds to a norm's scale and shift, [K, C] each; empty without classes.
    def old_classes(self) -> Mapping[str, tuple[Tensor, Tensor]]: ...
    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents: ...
    def styles(self, latents: Latents, truncation: float = 1.0) -> list[Tensor]: ...
    def style_samples(self) -> Tensor: ...
    def mean_style(self) -> Tensor: ...
    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor], edits: Edits = SOURCE) -> GenOut: ...
    def __call__(self, latents: Latents, edits: Edits = SOURCE, truncation: float = 1.0) -> GenOut: ...
