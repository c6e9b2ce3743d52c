"""What StyleGAN2 and 3 share: latents, the mapping network, truncation. B batch, Z latent, L label, W style width."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan import host, rng
from hmgan.layers.backbone import Backbone
from hmgan.layers.mapping import Mapping
from hmgan.types import Latents


class StyledBackbone(Backbone):
    """A mapping network, and layers that each take a w of their own.

    Where the mapping takes labels and none are given, an image is of an old class drawn at random.
    """

    style_per_layer = True
    mapping: Mapping
    num_ws: int

    @abstractmethod
    def noise_maps(self, keys: Sequence[int]) -> tuple[Tensor, ...]:
        """One [B, 1, H, W] per layer with noise."""

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        device = self.mapping.w_avg.device
        z, z_mix = host.sent(rng.normal_rows(keys, 2 * self.z_dim), device).split(self.z_dim, 1)
        coin_B, share_B, label_B = rng.uniform_rows([key ^ 1 for key in keys], 3).unbind(1)
        crossover_B = torch.where(coin_B < mixing, 1 + (share_B * (self.num_ws - 1)).long(), self.num_ws)
        if self.label_dim:
            one_hot_BL = host.sent(F.one_hot((label_B * self.label_dim).long(), self.label_dim), device).to(z)
            z, z_mix = (torch.cat([each, one_hot_BL], 1) for each in (z, z_mix))
        # On the host, where whether any sample mixes is known without waiting for the device.
        mixes = bool((crossover_B < self.num_ws).any())
        return Latents(z, self.noise_maps(keys), z_mix, host.sent(crossover_B, device), mixes)

    def styles(self, latents: Latents, truncation: float = 1.0, cutoff: int | None = None) -> list[Tensor]:
        """One w [B, W] per layer; the first `cutoff` are pulled towards the mean w, all where that is left out."""
        w_BW = self.mapping(latents.z)
        if bool((latents.crossover_B < self.num_ws).any()) if latents.mixes is None else latents.mixes:
            mix_BW = self.mapping(latents.z_mix)
            styles = [torch.where((latents.crossover_B <= i)[:, None], mix_BW, w_BW) for i in range(self.num_ws)]
        else:
            # Views, so that each layer's style has a gradient of its own.
            styles = list(w_BW.expand(self.num_ws, -1, -1).unbind())
        if truncation != 1.0:
            near = self.num_ws if cutoff is None else cutoff
            mean_BW = self.mapping.w_avg.expand_as(w_BW)
            styles = [torch.lerp(mean_BW, w, truncation) if i < near else w for i, w in enumerate(styles)]
        return styles

    @torch.no_grad()
    def style_samples(self, samples: int = 4096) -> Tensor:
        generator = rng.generator(0)
        z = torch.randn(samples, self.z_dim, generator=generator).to(self.mapping.w_avg)
        if self.label_dim:
            label = torch.randint(self.label_dim, (samples,), generator=generator).to(z.device)
            z = torch.cat([z, F.one_hot(label, self.label_dim).to(z)], 1)
        return self.mapping(z)

    def mean_style(self) -> Tensor:
        """[W], the mean of w that training kept: the centre that truncation pulls towards."""
        return self.mapping.w_avg
