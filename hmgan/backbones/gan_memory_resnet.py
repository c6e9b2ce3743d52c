"""GP-GAN's generator (Mescheder et al. 2018), GAN Memory's source. B batch, Z latent width, C channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import host, rng
from hmgan.backbones.stylegan1 import block_count, block_widths
from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.equalized import leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.sites import SiteConv2d, SiteLinear
from hmgan.types import Count, GenOut, Latents

BASE = 64  # nf, the width of the last block


def residual_widths(resolution: int, channels: Sequence[int] | None) -> tuple[int, ...]:
    """Channels per block; the original's where none are given: 16 nf at 4 px, nf at the last two.

    Raises: UserError for a resolution or widths that do not fit.
    """
    blocks = block_count(resolution)
    return block_widths(resolution, channels or [BASE * min(16, max(1, 2 ** (blocks - 2 - i))) for i in range(blocks)])


class PlainSiteConv2d(SiteConv2d):
    """A 3x3 site with PyTorch's own initialisation and no gain, as the original has it."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name, inputs, outputs)
        self.gain = 1.0
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.uniform_(self.bias, -1 / math.sqrt(9 * inputs), 1 / math.sqrt(9 * inputs))


class ResidualBlock(nn.Module):
    """x + 0.1 * conv2(act(conv1(act(x)))); the shortcut is a 1x1, without bias, where the width changes."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = min(inputs, outputs)
        self.conv1 = PlainSiteConv2d(f"{name}.conv1", inputs, hidden)
        self.conv2 = PlainSiteConv2d(f"{name}.conv2", hidden, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, edits: Edits = SOURCE) -> Tensor:
        change = self.conv2(leaky_relu(self.conv1(leaky_relu(x), edits)), edits)
        return torch.add(self.shortcut(x), change, alpha=0.1)


@register("backbone", "gan-memory-resnet")
class GANMemoryResNet(Backbone):
    """A linear layer to 4x4, a residual block per resolution with nearest up-sampling between, a 7x7, tanh.

    Its sites are the linear layer and both 3x3 of every block, not the 1x1 shortcuts or the 7x7. It has no norms and no
    noise, and its only style is z, which is never mixed.

    Args:
        resolution: output pixels, a power of two from 4 to 1024.
        channels: width per block, 4 px first; the original's (16 nf ... nf, nf = 64) where left out.
        z_dim: latent width.

    Raises: UserError for a resolution or widths that do not fit.
    """

    def __init__(self, *, resolution: Count = 256, channels: list[Count] | None = None, z_dim: Count = 256) -> None:
        super().__init__()
        widths = residual_widths(resolution, channels)
        self.resolution, self.widths, self.z_dim = resolution, widths, z_dim
        self.fc = SiteLinear("fc", z_dim, widths[0] * 16)
        self.blocks = nn.ModuleList(
            ResidualBlock(f"blocks.{i}", widths[max(i - 1, 0)], width) for i, width in enumerate(widths)
        )
        self.to_rgb = nn.Conv2d(widths[-1], 3, 7, padding=3)

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        z = host.sent(rng.normal_rows(keys, self.z_dim), self.to_rgb.weight.device)
        return Latents(z, (), z, torch.full((len(keys),), len(self.blocks), device=z.device))

    def styles(self, latents: Latents, truncation: float = 1.0) -> list[Tensor]:
        """For every block z [B, Z], shrunk towards zero by `truncation`; only the first block's is used."""
        return [latents.z * truncation] * len(self.blocks)

    def style_samples(self, samples: int = 4096) -> Tensor:
        return torch.randn(samples, self.z_dim, generator=rng.generator(0)).to(self.to_rgb.weight)

    def mean_style(self) -> Tensor:
        return self.to_rgb.weight.new_zeros(self.z_dim)

    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor] = (), edits: Edits = SOURCE) -> GenOut:
        h = self.fc(styles[0], edits).unflatten(1, (-1, 4, 4))
        features: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            h = block(F.interpolate(h, scale_factor=2.0) if i else h, edits)
            features.append(h)
        with unrounded(h):
            return GenOut(self.to_rgb(leaky_relu(widened(h))).tanh(), tuple(features))
