"""What a source generator offers to everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from hmgan.layers.conditional_norm import SiteConditionalNorm
from hmgan.layers.edits import SOURCE, Edits, per_sample
from hmgan.layers.modulated import SiteStyle
from hmgan.layers.sites import SiteAdaIN, WeightSite
from hmgan.types import GenOut, Latents

UNEDITED = ("*.const", "*.noise?.*", "*.noise_strength", "to_rgb.*")
NormSite = SiteAdaIN | SiteConditionalNorm | SiteStyle


class Backbone(nn.Module, ABC):
    """A generator with named sites. Without edits it is the source, exactly."""

    resolution: int
    z_dim: int
    widths: tuple[int, ...]  # channels per block, 4 px first
    batch_statistics = False  # whether samples of a batch depend on each other while it trains
    style_per_layer = False  # whether each layer's style has a gradient of its own, by which images have path lengths
    static = False  # whether a pass from the styles on takes nothing from the host, as a CUDA graph needs it
    label_dim = 0  # numbers of a class that its mapping takes beside z

    def sites(self) -> Mapping[str, WeightSite]:
        """The layers whose weights a modulation may edit, by name."""
        return {m.name: m for m in self.modules() if isinstance(m, WeightSite)}

    def norms(self) -> Mapping[str, NormSite]:
        """What has a scale and a shift of the style's that a modulation may edit, by name."""
        return {m.name: m for m in self.modules() if isinstance(m, NormSite)}

    def unedited(self) -> list[str]:
        """The parameters that neither a modulation nor a style changes.

        Noise strengths, and input constant and to-RGB where they are no sites.
        """
        edited = {id(tensor) for site in self.sites().values() for tensor in (site.weight, site.bias)}
        names = [name for name, parameter in self.named_parameters() if id(parameter) not in edited]
        return [name for name in names if any(fnmatch(name, pattern) for pattern in UNEDITED)]

    def maps(self) -> Sequence[tuple[int, int]]:
        """Channels and pixels of each block's output, for estimates of memory."""
        return [(width, (4 << i) ** 2) for i, width in enumerate(self.widths)]

    def old_classes(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """What each class of a conditional source adds to a norm's scale and shift, [K, C] each, by the edit's name."""
        return {}

    @abstractmethod
    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        """One image's randomness per key; with probability `mixing` it has a second style."""

    def labelled(self, latents: Latents, label_BL: Tensor) -> Latents:
        """With a class's numbers beside z, in place of those that were drawn."""
        z, z_mix = (torch.cat([z[:, : self.z_dim], label_BL], 1) for z in (latents.z, latents.z_mix))
        return latents._replace(z=z, z_mix=z_mix)

    @abstractmethod
    def styles(self, latents: Latents, truncation: float = 1.0) -> list[Tensor]:
        """What each block is given, [B, W] each, pulled towards the mean where `truncation` is below 1."""

    @abstractmethod
    def style_samples(self) -> Tensor:
        """[samples, W], the styles of fixed draws."""

    def mean_style(self) -> Tensor:
        """[W], the mean of the styles of fixed draws."""
        return self.style_samples().mean(0)

    @abstractmethod
    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor], edits: Edits = SOURCE) -> GenOut:
        """Images, and every block's output."""

    def forward(self, latents: Latents, edits: Edits = SOURCE, truncation: float = 1.0) -> GenOut:
        if edits.label_RL is not None:
            latents = self.labelled(latents, per_sample(edits.label_RL, edits.counts))
        styles = self.styles(latents, truncation)
        return self.synthesise(styles, latents.noise, edits)._replace(styles=tuple(styles))
