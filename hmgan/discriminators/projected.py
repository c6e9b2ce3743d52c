"""A discriminator on features of a pretrained network (Sauer et al. 2021, arXiv:2111.01007).

B batch, C channels, F embedding width, H/W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import components
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.spectral import SpectralConv2d
from hmgan.types import Count

SMALLEST = 4  # pixels of a map at which a branch ends


class Branch(nn.Module):
    """Of one map: a fixed random mixture of its channels, then convolutions that halve it. [B, C, h, w] -> [B, W]."""

    def __init__(self, inputs: int, pixels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mixture", torch.randn(width, inputs, 1, 1) / inputs**0.5)
        halvings = max(0, (pixels // SMALLEST).bit_length() - 1)
        self.convs = nn.ModuleList(SpectralConv2d(width, width, 3) for _ in range(halvings + 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.get_buffer("mixture"))
        for i, conv in enumerate(self.convs):
            x = F.leaky_relu(conv(x), 0.2)
            x = F.avg_pool2d(x, 2) if i < len(self.convs) - 1 else x
        with unrounded(x):
            return widened(x).mean((2, 3))


@register("discriminator", "projected")
class ProjectedDiscriminator(Discriminator):
    """A branch per map of a frozen network's features, and a head on all of them together; no weights of the source.

    The features must not be the judge's: a score would praise what it trained. The original has a logit per map, and
    mixes maps too; here one head serves, so that any can. With it go adversarial = "hinge", r1.every = 0 and
    augment = "diffaugment".

    Args:
        path: of the features' TorchScript file: images [B, 3, H, W] in [-1, 1] -> one or several maps [B, C, h, w];
            needed.
        sha256: of the file, which is code: only this one is run; needed.
        resolution: input pixels.
        width: channels of each branch.

    Raises: UserError for a file that cannot be had, is another one, or makes no maps of such images.
    """

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        path: str | None = None,
        sha256: str | None = None,
        resolution: Count = 256,
        width: Count = 64,
    ) -> None:
        super().__init__()
        self.features = components.build("feature-net", "torchscript", path=path, sha256=sha256)
        with torch.no_grad():
            maps = self.features(torch.zeros(1, 3, resolution, resolution))
        self.branches = nn.ModuleList(Branch(each.shape[1], min(each.shape[2:]), width) for each in maps)
        self.head = make_head(width * len(maps), classes)

    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        with unrounded(images):
            maps = self.features(widened(images))
        return torch.cat([branch(each) for branch, each in zip(self.branches, maps, strict=True)], 1)
