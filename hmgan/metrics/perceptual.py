"""A perceptual distance from the embedded SqueezeNet's layers. It is not LPIPS: it has no heads fitted to people.

B batch, C channels, H/W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from hmgan.metrics.features import load_squeezenet
from hmgan.metrics.squeezenet import SqueezeNet

EPSILON = 1e-10


class SqueezeLayers(nn.Module):
    """Squared differences of unit-length features, summed over SqueezeNet's conv1, fire3, fire5, fire7 and fire9.

    d(a, b) = sum over layers of the mean over pixels of |u(a) - u(b)|^2, u scaling each pixel's channels to length 1:
    the form of Zhang et al. 2018, Eq. 1, with every channel's weight 1, on images resized to one side. Each layer is in
    0..4, and for ReLU features, none of them negative, in 0..2.

    Args:
        trunk: SqueezeNet, which normalises its input itself. It is computed in the precision of the images, so that
            differences of 1e-4 can be told from rounding in float64.
        digest: sha256 of its weights.
        side: pixels of the square that images are resized to.

    Shapes: two of [B, 3, H, W], float RGB in 0..255 (beyond it is not clamped) -> [B].
    """

    name = "squeezenet-layers"

    def __init__(self, trunk: SqueezeNet, *, digest: str, side: int) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.digest = digest
        self.side = side
        self.eval()

    @property
    def resizer(self) -> str:
        return f"bicubic-antialias-{self.side}-unclamped"

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        layers = zip(self.layers(a_B3HW), self.layers(b_B3HW), strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in layers]).sum(dim=0)

    def layers(self, images_B3HW: Tensor) -> list[Tensor]:
        """Each layer's features [B, C, H, W], every pixel's channels at length 1."""
        size = (self.side, self.side)
        scaled = fn.interpolate(images_B3HW, size, mode="bicubic", antialias=True, align_corners=False)
        return [unit_length(x) for x in self.trunk.layers(scaled)]


def unit_length(x_BCHW: Tensor) -> Tensor:
    """Channels over their norm at each pixel. Pixels where all are zero stay so."""
    return x_BCHW / (x_BCHW.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)


def load_squeeze_layers(dtype: torch.dtype = torch.float32) -> SqueezeLayers:
    """The distance on the package's own weights."""
    extractor = load_squeezenet()
    trunk = extractor.trunk.to(dtype)
    assert isinstance(trunk, SqueezeNet)
    return SqueezeLayers(trunk, digest=extractor.digest, side=extractor.side)
