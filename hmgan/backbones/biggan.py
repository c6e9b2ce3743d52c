"""BigGAN's generator (Brock et al. 2019). B batch, K old classes, E embedding, Z latent, W style width, C channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import host, rng
from hmgan.backbones.gan_memory_resnet import residual_widths
from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.conditional_norm import SiteConditionalNorm
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.sites import SiteConv2d
from hmgan.layers.spectral import SpectralConv2d, SpectralLinear, attention_at, normalised
from hmgan.types import Count, GenOut, Latents, Whole


class SpectralSiteConv2d(SiteConv2d):
    """A spectrally normalised 3x3 site, orthogonal at first."""

    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        super().__init__(name, inputs, outputs)
        self.gain = 1.0
        nn.init.orthogonal_(self.weight)

    def effective_weight(self) -> Tensor:
        return normalised(self.weight)


class GBlock(nn.Module):
    """Norm, ReLU, doubling, 3x3, norm, ReLU, 3x3, beside a doubled 1x1 shortcut."""

    def __init__(self, name: str, inputs: int, outputs: int, embedding: int, z_dim: int) -> None:
        super().__init__()
        self.norm1 = SiteConditionalNorm(f"{name}.norm1", inputs, embedding, z_dim)
        self.conv1 = SpectralSiteConv2d(f"{name}.conv1", inputs, outputs)
        self.norm2 = SiteConditionalNorm(f"{name}.norm2", outputs, embedding, z_dim)
        self.conv2 = SpectralSiteConv2d(f"{name}.conv2", outputs, outputs)
        self.shortcut = SpectralConv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, w_BW: Tensor, edits: Edits) -> Tensor:
        h = F.interpolate(self.norm1(x, w_BW, edits).relu(), scale_factor=2.0)
        h = self.norm2(self.conv1(h, edits), w_BW, edits).relu()
        # A 1x1 and nearest up-sampling commute: the small map first.
        return F.interpolate(self.shortcut(x), scale_factor=2.0) + self.conv2(h, edits)


@register("backbone", "biggan")
class BigGAN(Backbone):
    """Residual blocks whose batch norms see a shared class embedding and, each block, a part of z of its own.

    z ends with a weight per old class, one-hot where it is drawn: without labels the source shows a random old class.
    As a source it keeps the batch statistics of its pretraining, so that samples do not depend on each other.

    Args:
        resolution: output pixels, a power of two from 8 to 1024.
        classes: K, classes of the data it is pretrained on.
        channels: width at 4 px and behind every block.
        z_dim: latent width, divided evenly over the first layer and the blocks.
        shared: E, width of the class embedding.
        attention: pixels behind whose block self-attention stands; 0 for none.

    Raises: UserError for a resolution, widths, a latent width or pixels of attention that do not fit.
    """

    batch_statistics = True

    def __init__(
        self,
        *,
        resolution: Count = 128,
        classes: Count = 1000,
        channels: list[Count] | None = None,
        z_dim: Count = 120,
        shared: Count = 128,
        attention: Whole = 0,
    ) -> None:
        super().__init__()
        widths = residual_widths(resolution, channels)
        parts = len(widths)
        if resolution < 8 or z_dim % parts:
            wanted = f"needs 8 px or more and a z_dim of {parts} equal parts"
            raise UserError(f"biggan at {resolution} px {wanted}, got {z_dim}")
        self.resolution, self.widths, self.classes = resolution, widths, classes
        self.z_dim, self.part = z_dim, z_dim // parts
        self.embedding = nn.Embedding(classes, shared)
        nn.init.orthogonal_(self.embedding.weight)
        self.fc = SpectralLinear(self.part, widths[0] * 16)
        self.blocks = nn.ModuleList(
            GBlock(f"blocks.{i}", widths[i], widths[i + 1], shared, self.part) for i in range(parts - 1)
        )
        self.attention = attention_at(attention, [4 << i for i in range(1, parts)], widths[1:])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_rgb = SpectralConv2d(widths[-1], 3, 3)

    def old_classes(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        norms = (m for m in self.modules() if isinstance(m, SiteConditionalNorm))
        return {norm.class_name: norm.class_part(self.embedding.weight) for norm in norms}

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        """One z and one old class per key; there is no second style to mix in."""
        z = host.sent(rng.normal_rows(keys, self.z_dim), self.embedding.weight.device)
        label_B = (rng.uniform_rows([key ^ 1 for key in keys], 1)[:, 0] * self.classes).long()
        unmixed = torch.full((len(keys),), len(self.blocks), device=z.device)
        latents = self.labelled(Latents(z, (), z, unmixed), host.sent(label_B, z.device))
        return latents._replace(z_mix=latents.z)

    def labelled(self, latents: Latents, labels_B: Tensor) -> Latents:
        """The same latents under given old classes."""
        one_hot_BK = F.one_hot(labels_B, self.classes).to(latents.z)
        return latents._replace(z=torch.cat([latents.z[:, : self.z_dim], one_hot_BK], 1))

    def styles(self, latents: Latents, truncation: float = 1.0) -> list[Tensor]:
        """The first layer's part of z [B, Z / parts], and a style [B, W] per block; z shrinks by `truncation`."""
        with unrounded(latents.z):
            embedding_BE = latents.z[:, self.z_dim :] @ self.embedding.weight
        first, *rest = (latents.z[:, : self.z_dim] * truncation).split(self.part, 1)
        return [first, *(torch.cat([embedding_BE, part], 1) for part in rest)]

    def style_samples(self, samples: int = 4096) -> Tensor:
        """[samples, W], fixed draws of a block's style: an old class, and a part of z."""
        drawn = rng.generator(0)
        label = torch.randint(self.classes, (samples,), generator=drawn)
        z = torch.randn(samples, self.part, generator=drawn)
        embedding = self.embedding.weight.detach()[label.to(self.embedding.weight.device)]
        return torch.cat([embedding, z.to(embedding)], 1)

    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor] = (), edits: Edits = SOURCE) -> GenOut:
        """Images, and the maps of every resolution: the first layer's and every block's output."""
        h = self.fc(styles[0]).unflatten(1, (-1, 4, 4))
        features = [h]
        for block, attention, w_BW in zip(self.blocks, self.attention, styles[1:], strict=True):
            h = attention(block(h, w_BW, edits))
            features.append(h)
        with unrounded(h):
            return GenOut(self.to_rgb(self.norm(widened(h)).relu()).tanh(), tuple(features))
