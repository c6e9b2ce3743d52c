"""Networks through which an objective sees images; scores have extractors. B batch, C channels, H/W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.metrics.features import load_squeezenet
from hmgan.metrics.squeezenet import SqueezeNet
from hmgan.types import Count


class FeatureNet(Protocol):
    """A frozen network: images [B, 3, H, W] in about [-1, 1] -> features [B, C, h, w], one per layer."""

    def __call__(self, images_B3HW: Tensor) -> Sequence[Tensor]: ...


@register("feature-net", "squeezenet")
class SqueezeFeatures(nn.Module):
    """SqueezeNet's conv1, fire3, fire5, fire7 and fire9, on the package's own weights.

    In place of ten layers of VGG-16, which the package does not have. As with those, features are not normalised and
    come from images of 0 to 255 at their own size; but images too small for its last layers are enlarged.

    Args:
        least: pixels below which images are enlarged to this many.

    Shapes: [B, 3, H, W] in about [-1, 1] -> five of [B, C, h, w].
    """

    needs: ClassVar = {"task.name=reconstruction": "compares reconstructed images"}

    def __init__(self, *, least: Count = 64) -> None:
        super().__init__()
        self.least = least
        trunk = load_squeezenet().trunk
        assert isinstance(trunk, SqueezeNet)
        self.trunk = trunk.to(torch.get_default_dtype())  # that of the images

    def forward(self, images_B3HW: Tensor) -> Sequence[Tensor]:
        if images_B3HW.shape[-1] < self.least:
            size = (self.least, self.least)
            images_B3HW = F.interpolate(images_B3HW, size, mode="bicubic", align_corners=False)
        return self.trunk.layers((images_B3HW + 1) * 127.5)


def feature_l1(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """The sum over layers of the mean absolute difference of features."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(one, other, strict=True)]).sum()
