"""DiffAugment (Zhao et al. 2020). B batch, C channels, H/W pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hmgan.augment.base import uniforms
from hmgan.components import register

TRANSLATION = 1 / 8  # of the image's size, at most, either way
CUTOUT = 1 / 2  # side of the square that is blanked, of the image's size


@register("augment", "diffaugment")
class DiffAugment(nn.Module):
    """Random colour, translation and cutout of every image that D sees, real or fake, in both phases.

    In this order: brightness + U(-0.5, 0.5); saturation x U(0, 2) about the pixel's grey; contrast x U(0.5, 1.5) about
    the image's mean; translation by whole pixels, up to an eighth of the image, padded with zeros; a square of half the
    image's side set to zero, wholly or partly inside.

    Shapes: x_BCHW, keys [B] -> [B, C, H, W].
    """

    adapts = False

    def forward(self, x_BCHW: Tensor, keys: Sequence[int]) -> Tensor:
        u_BD = uniforms(keys, 7, x_BCHW.device)
        bright, saturation, contrast = (u[:, None, None, None] for u in u_BD[:, :3].to(x_BCHW.dtype).unbind(1))
        x = x_BCHW + (bright - 0.5)
        x = _about(x.mean(1, keepdim=True), x, 2 * saturation)
        x = _about(x.mean((1, 2, 3), keepdim=True), x, contrast + 0.5)
        return _cut_out(_translated(x, u_BD[:, 3:5]), u_BD[:, 5:7])

    def observe(self, real_B: Tensor, step: int) -> dict[str, Tensor]:
        """Nothing adapts."""
        return {}


def _about(centre: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return centre + factor * (x - centre)


def _translated(x_BCHW: Tensor, u_B2: Tensor) -> Tensor:
    """Shifts down and right by whole pixels, padded with zeros."""
    for axis, u_B in zip((2, 3), u_B2.unbind(1), strict=True):
        size = x_BCHW.shape[axis]
        reach = int(size * TRANSLATION + 0.5)
        shift_B = _whole(u_B, 2 * reach + 1) - reach
        from_BN = torch.arange(size, device=x_BCHW.device) - shift_B[:, None]
        inside_BN = (from_BN >= 0) & (from_BN < size)
        index = _along(from_BN.clamp(0, size - 1), axis).expand_as(x_BCHW)
        x_BCHW = torch.where(_along(inside_BN, axis), x_BCHW.gather(axis, index), 0)
    return x_BCHW


def _cut_out(x_BCHW: Tensor, u_B2: Tensor) -> Tensor:
    """Sets a square to zero; its centre is anywhere in the image, so it may lie partly outside."""
    cut: list[Tensor] = []
    for axis, u_B in zip((2, 3), u_B2.unbind(1), strict=True):
        size = x_BCHW.shape[axis]
        side = int(size * CUTOUT + 0.5)
        first_B1 = (_whole(u_B, size + 1 - side % 2) - side // 2)[:, None]
        at_N = torch.arange(size, device=x_BCHW.device)
        cut.append(_along((at_N >= first_B1) & (at_N < first_B1 + side), axis))
    return torch.where(cut[0] & cut[1], 0, x_BCHW)


def _whole(u_B: Tensor, count: int) -> Tensor:
    """Uniform on 0 .. count - 1."""
    return (u_B * count).long()


def _along(x_BN: Tensor, axis: int) -> Tensor:
    """[B, N] -> [B, 1, N, 1] or [B, 1, 1, N]."""
    return x_BN[:, None, :, None] if axis == 2 else x_BN[:, None, None, :]
