"""Perceptual distances: the embedded SqueezeNet's layers, which are not LPIPS, and LPIPS from a TorchScript file.

B batch, C channels, F features, H/W pixels.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.metrics.features import Scorer, load_squeezenet
from hmgan.metrics.squeezenet import SqueezeNet

EPSILON = 1e-10
LARGEST = 256  # pixels of a side that LPIPS is asked about


class Perceptual(Scorer, Protocol):
    """How different two images look."""

    def __call__(self, a_B3HW: Tensor, b_B3HW: Tensor, /) -> Tensor: ...
    def to(self, device: torch.device, /) -> Perceptual: ...


class SqueezeLayers(nn.Module):
    """Squared differences of unit-length features, summed over SqueezeNet's conv1, fire3, fire5, fire7 and fire9.

    d(a, b) = sum over layers of the mean over pixels of |u(a) - u(b)|^2, u scaling each pixel's channels to length 1:
    the form of Zhang et al. 2018, Eq. 1, with every channel's weight 1. Each layer adds 0..2, ReLU's features being 0
    or more.

    Args:
        trunk: computes in the precision of the images: in float64, differences of 1e-4 can be told from rounding.
        digest: sha256 of its weights.
        side: pixels of the square that images are resized to.

    Shapes: two of [B, 3, H, W], float RGB in 0..255 (beyond it is not clamped) -> [B].
    """

    name = "squeezenet-layers"

    def __init__(self, trunk: SqueezeNet, *, digest: str, side: int) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.digest, self.side = digest, side
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


class ScriptedLPIPS(nn.Module):
    """A file's features, whose squared distance is LPIPS (Zhang et al. 2018), in the file's float32.

    Images above 256 px are averaged down to 256 first, as for StyleGAN's path lengths; smaller ones stay as they are.

    Args:
        script: [B, 3, H, W] in 0..255, resize_images=False, return_lpips=True -> [B, F].

    Shapes: two of [B, 3, H, W], float RGB in 0..255 (beyond it is not clamped) -> [B].
    Raises: UserError if the script gives something else.
    """

    resizer = f"area-above-{LARGEST}"

    def __init__(self, script: nn.Module, *, name: str, digest: str) -> None:
        super().__init__()
        self.script, self.name, self.digest = script, name, digest

    def forward(self, a_B3HW: Tensor, b_B3HW: Tensor) -> Tensor:
        a_BF, b_BF = self.features(a_B3HW), self.features(b_B3HW)
        return (a_BF - b_BF).square().sum(dim=1)

    def features(self, images_B3HW: Tensor) -> Tensor:
        images_B3HW = images_B3HW.float()
        if max(images_B3HW.shape[2:]) > LARGEST:
            images_B3HW = fn.interpolate(images_B3HW, (LARGEST, LARGEST), mode="area")
        features_BF = self.script(images_B3HW, resize_images=False, return_lpips=True)
        if features_BF.ndim != 2 or len(features_BF) != len(images_B3HW):
            got = list(features_BF.shape)
            raise UserError(f"perceptual {self.name} gave {got} for {len(images_B3HW)} images, wanted a row for each")
        return features_BF


def unit_length(x_BCHW: Tensor) -> Tensor:
    """Channels over their norm at each pixel. Pixels where all are zero stay so."""
    return x_BCHW / (x_BCHW.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)


def load_squeeze_layers(dtype: torch.dtype = torch.float32) -> SqueezeLayers:
    """The distance on the package's own weights."""
    extractor = load_squeezenet()
    trunk = extractor.trunk.to(dtype)
    assert isinstance(trunk, SqueezeNet)
    return SqueezeLayers(trunk, digest=extractor.digest, side=extractor.side)
