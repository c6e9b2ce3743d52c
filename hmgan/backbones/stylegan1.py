"""StyleGAN's generator (Karras et al. 2019), as its PyTorch port computes it. B batch, W style width, C channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hmgan import host, rng
from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.equalized import Blur, EqualConv2d, EqualLinear, PixelNorm, he_gain, instance_norm, leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.fused_first import FusedFirst
from hmgan.layers.passes import Passing, Styling
from hmgan.layers.sites import ConvSite, SiteAdaIN, SiteConv2d
from hmgan.types import Count, GenOut, Latents, Whole

# Channels at 4, 8, ... 1024 pixels.
PORT_WIDTHS = (512, 512, 512, 512, 256, 128, 64, 32, 16)
# From here up the port up-samples by a kernel of four averaged shifts instead of nearest neighbours.
FUSED_FROM_PIXELS = 128
NEAREST, FUSED = 1.0, 0.25


def block_count(resolution: int) -> int:
    """Blocks from 4 pixels to `resolution`. Raises UserError unless it is a power of two in 4..1024."""
    if resolution not in [4 << i for i in range(9)]:
        raise UserError(f"resolution must be a power of two from 4 to 1024, got {resolution}")
    return (resolution // 4).bit_length()


def block_widths(resolution: int, channels: Sequence[int] | None) -> tuple[int, ...]:
    """Channels per block; the port's own where none are given. Raises UserError for those that do not fit."""
    blocks = block_count(resolution)
    widths = tuple(channels or PORT_WIDTHS[:blocks])
    if len(widths) != blocks or min(widths) < 1:
        raise UserError(f"channels needs {blocks} positive widths for {resolution} px (4 px first), got {list(widths)}")
    return widths


def up_gain(block: int) -> float:
    """What the sum of a kernel's four shifts is multiplied by where the block doubles its resolution."""
    return FUSED if 4 << block >= FUSED_FROM_PIXELS else NEAREST


class Noise(nn.Module):
    """Adds one noise map, scaled per channel. x [B, C, H, W], noise [B, 1, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.gain = he_gain(channels)

    def strength(self) -> Tensor:
        """[C], as it acts."""
        return self.weight * self.gain

    def forward(self, x: Tensor, noise_B1HW: Tensor) -> Tensor:
        return noisy(x, self.strength(), noise_B1HW)


def noisy(x: Tensor, strength_C: Tensor, noise_B1HW: Tensor) -> Tensor:
    """Adds a noise map [B, 1, H, W] to x [B, C, H, W], scaled per channel."""
    return torch.addcmul(x, strength_C.to(x.dtype)[None, :, None, None], noise_B1HW.to(x.dtype))


class Finish(nn.Module):
    """What follows a convolution: noise, leaky ReLU, and a norm under a scale and a shift per sample."""

    def forward(self, x: Tensor, strength_C: Tensor, noise_B1HW: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
        return instance_norm(leaky_relu(noisy(x, strength_C, noise_B1HW)), scale_BC, shift_BC)


class Block(Passing):
    """Twice: convolution, noise, leaky ReLU, AdaIN; the first convolution doubles the resolution and is blurred.

    The block at 4 pixels has a learned constant in place of its first convolution.
    """

    def __init__(self, name: str, inputs: int, outputs: int, w_dim: int, up: float, fused_first: bool = False) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, outputs, 4, 4)) if not up else None
        self.conv1: ConvSite | None = None
        if up:
            fused = fused_first and up == FUSED
            conv1 = FusedFirst if fused else partial(SiteConv2d, up=up)
            self.conv1 = conv1(f"{name}.conv1", inputs, outputs)
        self.blur = Blur()
        self.noise1 = Noise(outputs)
        self.norm1 = SiteAdaIN(f"{name}.norm1", outputs, w_dim)
        self.conv2 = SiteConv2d(f"{name}.conv2", outputs, outputs)
        self.noise2 = Noise(outputs)
        self.norm2 = SiteAdaIN(f"{name}.norm2", outputs, w_dim)
        self.finish = Finish()

    def forward(self, x: Tensor | None, w_BW: Tensor, noise_B1HW: Tensor, edits: Edits) -> Tensor:
        if self.conv1 is None:
            assert self.const is not None
            x = self.const.expand(w_BW.shape[0], -1, -1, -1)  # len() would fix the batch of an export
        assert x is not None
        blur = None if self.conv1 is None else self.blur
        first = Styling(self.noise1.strength(), noise_B1HW, *self.norm1.scale_and_shift(w_BW, edits))
        h = self.passes.styled(x, self.conv1, edits, blur, self.finish, first)
        second = Styling(self.noise2.strength(), noise_B1HW, *self.norm2.scale_and_shift(w_BW, edits))
        return self.passes.styled(h, self.conv2, edits, None, self.finish, second)


@register("backbone", "stylegan1")
class StyleGAN1(Backbone):
    """Mapping network, synthesis blocks and the last resolution's to-RGB.

    Args:
        resolution: output pixels, a power of two from 4 to 1024.
        channels: width per block, 4 px first; the port's widths (512 ... 16) where left out.
        z_dim: latent and style width, Z = W as in the port.
        mapping_layers: depth of the mapping network.
        mined: whether a miner in front of the mapping chooses which z to ask for (MineGAN, Wang et al. 2020).
        label_dim: numbers of a class that the mapping takes beside z, for training with labels from scratch.
        fused_first: whether kernels from 128 px up are fused before they are modulated, which is the order of
            Hyper-Modulation's released code and of the models trained with it; ours modulates first.

    Raises: UserError for a resolution or widths that do not fit.
    """

    static = True

    def __init__(
        self,
        *,
        resolution: Count = 256,
        channels: list[Count] | None = None,
        z_dim: Count = 512,
        mapping_layers: Whole = 8,
        mined: bool = False,
        label_dim: Whole = 0,
        fused_first: bool = False,
    ) -> None:
        super().__init__()
        widths = block_widths(resolution, channels)
        self.resolution, self.widths, self.z_dim, self.label_dim = resolution, widths, z_dim, label_dim
        mapping: list[nn.Module] = [PixelNorm()]
        for i in range(mapping_layers):
            mapping += [EqualLinear(z_dim if i else z_dim + label_dim, z_dim), nn.LeakyReLU(0.2)]
        self.mapping = nn.Sequential(*mapping)
        # Two plain linear layers, as MineGAN's authors use for StyleGAN.
        layers = [nn.Linear(z_dim, z_dim), nn.ReLU(), nn.Linear(z_dim, z_dim)] if mined else []
        self.miner = nn.Sequential(*layers)
        self.blocks = nn.ModuleList(
            Block(f"blocks.{i}", widths[max(i - 1, 0)], width, z_dim, up_gain(i) if i else 0.0, fused_first)
            for i, width in enumerate(widths)
        )
        self.to_rgb = EqualConv2d(widths[-1], 3, 1)

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        device, sizes = self.to_rgb.weight.device, [(4 << i) ** 2 for i in range(len(self.blocks))]
        rows = host.sent(rng.normal_rows(keys, 2 * self.z_dim + sum(sizes)), device)
        z, z_mix, *noise = rows.split([self.z_dim, self.z_dim, *sizes], 1)
        coin_B, share_B = rng.uniform_rows([key ^ 1 for key in keys], 2).unbind(1)
        last = len(self.blocks) - 1
        crossover_B = torch.where(coin_B < mixing, 1 + (share_B * last).long(), last + 1)
        maps = tuple(n.view(len(keys), 1, 4 << i, 4 << i) for i, n in enumerate(noise))
        mixes = bool((crossover_B <= last).any())
        return Latents(z, maps, z_mix, host.sent(crossover_B, device), mixes)

    def styles(self, latents: Latents, truncation: float = 1.0) -> list[Tensor]:
        """One w [B, W] per block; where `truncation` is below 1, pulled towards the mean w, or that of its class."""
        w_BW = self._mapped(latents.z)
        styles = [w_BW] * len(self.blocks)
        if bool((latents.crossover_B < len(self.blocks)).any()) if latents.mixes is None else latents.mixes:
            mix_BW = self._mapped(latents.z_mix)
            styles = [torch.where((latents.crossover_B <= i)[:, None], mix_BW, w_BW) for i in range(len(self.blocks))]
        if truncation == 1.0:
            return styles
        if self.label_dim:
            label_RL, row_B = latents.z[:, self.z_dim :].unique(dim=0, return_inverse=True)
            mean_BW = torch.stack([self.mean_style(label_L) for label_L in label_RL])[row_B]
        else:
            mean_BW = self.mean_style()
        return [torch.lerp(mean_BW.expand_as(w), w, truncation) for w in styles]

    def _mapped(self, z: Tensor) -> Tensor:
        """Maps z, with the class's numbers behind it, to w [B, W]."""
        with unrounded(z):
            mined, label = self.miner(z[:, : self.z_dim]), z[:, self.z_dim :]
            return self.mapping(torch.cat([mined, label], 1) if self.label_dim else mined)

    @torch.no_grad()
    def style_samples(self, samples: int = 4096, label_L: Tensor | None = None) -> Tensor:
        z = torch.randn(samples, self.z_dim, generator=rng.generator(0)).to(self.to_rgb.weight)
        return self._mapped(z if label_L is None else torch.cat([z, label_L.expand(samples, -1)], 1))

    def mean_style(self, label_L: Tensor | None = None) -> Tensor:
        """[W], the mean of w over fixed draws of z: the centre that truncation pulls towards."""
        return self.style_samples(label_L=label_L).mean(0)

    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor], edits: Edits = SOURCE) -> GenOut:
        h: Tensor | None = None
        features = []
        for block, w_BW, noise_B1HW in zip(self.blocks, styles, noise, strict=True):
            h = block(h, w_BW, noise_B1HW, edits)
            features.append(h)
        with unrounded(features[-1]):
            return GenOut(self.to_rgb(widened(features[-1])), tuple(features))
