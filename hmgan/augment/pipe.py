"""ADA's pipeline (Karras et al. 2020, appendix B): pixel blitting, geometric and colour transformations.

Each is applied to an image with probability p; together they are one affine map of the plane and one of the colours.
Legend: B batch, D uniform numbers per image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GEOMETRY, COLOUR = 18, 10  # uniform numbers that each takes


class _Draws:
    """Hands out each image's uniform numbers one after the other; [B] each."""

    def __init__(self, u_BD: Tensor, p: Tensor) -> None:
        self.columns, self.p = iter(u_BD.unbind(1)), p

    def signed(self) -> Tensor:
        """Uniform on -1 .. 1."""
        return 2 * next(self.columns) - 1

    def whole(self, count: int) -> Tensor:
        return (count * next(self.columns)).floor()

    def normal(self) -> Tensor:
        # Clamped: 0 and 1 would be infinitely far out.
        return torch.special.ndtri(next(self.columns).clamp(1e-6, 1 - 1e-6))

    def happens(self, p: Tensor | None = None) -> Tensor:
        return next(self.columns) < (self.p if p is None else p)


def geometry(u_BD: Tensor, p: Tensor, size: int) -> Tensor:
    """[B, 3, 3]: where an output pixel comes from, in pixels from the centre.

    In this order, each drawn symmetrically, so that a draw and its inverse are equally likely: flip; quarter turns;
    shift by whole pixels, up to 1/8 of the size; zoom 2^N(0, 0.2); rotation; stretch 2^N(0, 0.2) along one axis and
    shrink along the other; rotation; shift by N(0, 1/8) of the size.
    """
    draw = _Draws(u_BD, p)
    either = 1 - torch.sqrt(1 - p)  # so that a rotation before or after the stretch has probability p
    flip = torch.where(draw.happens(), 1 - 2 * draw.whole(2), 1)
    source = _scaled(flip, torch.ones_like(flip))
    source = source @ _turned(torch.where(draw.happens(), math.pi / 2 * draw.whole(4), 0))
    moves, x, y = draw.happens(), draw.signed(), draw.signed()
    source = source @ _moved(*(torch.where(moves, (to * size / 8).round(), 0) for to in (x, y)))
    zoom = torch.where(draw.happens(), torch.exp2(0.2 * draw.normal()), 1)
    source = source @ _scaled(zoom, zoom)
    source = source @ _turned(torch.where(draw.happens(either), math.pi * draw.signed(), 0))
    stretch = torch.where(draw.happens(), torch.exp2(0.2 * draw.normal()), 1)
    source = source @ _scaled(stretch, 1 / stretch)
    source = source @ _turned(torch.where(draw.happens(either), math.pi * draw.signed(), 0))
    moves, x, y = draw.happens(), draw.normal(), draw.normal()
    return source @ _moved(*(torch.where(moves, to * size / 8, 0) for to in (x, y)))


def colour(u_BD: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, 3] and [B, 3]: what a colour is multiplied by, and what is added to it.

    In this order: brightness + N(0, 0.2); contrast x 2^N(0, 0.5); luma flip; hue rotated by any angle; saturation x
    2^N(0, 1).
    """
    draw = _Draws(u_BD, p)
    bright = torch.where(draw.happens(), 0.2 * draw.normal(), 0)
    contrast = torch.where(draw.happens(), torch.exp2(0.5 * draw.normal()), 1)
    swap = torch.where(draw.happens(), draw.whole(2), 0)
    angle = torch.where(draw.happens(), math.pi * draw.signed(), 0)
    saturation = torch.where(draw.happens(), torch.exp2(draw.normal()), 1)
    one = torch.eye(3, device=u_BD.device, dtype=u_BD.dtype)
    grey = torch.full_like(one, 1 / 3)  # projects on the grey axis
    across = (one.roll(1, 0) - one.roll(1, 1)) / math.sqrt(3)  # the vector product with that axis
    contrast, swap, sine, cosine, saturation = (
        v[:, None, None] for v in (contrast, swap, angle.sin(), angle.cos(), saturation)
    )
    turned = cosine * one + (1 - cosine) * grey + sine * across
    factor = (grey + saturation * (one - grey)) @ turned @ (one - 2 * swap * grey) * contrast
    return factor, factor.sum(2) * bright[:, None]


def _scaled(x_B: Tensor, y_B: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x_B, y_B, torch.ones_like(x_B)], 1))


def _turned(angle_B: Tensor) -> Tensor:
    sine, cosine, zero = angle_B.sin(), angle_B.cos(), torch.zeros_like(angle_B)
    rows = (cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1)
    return torch.stack(rows, 1).view(-1, 3, 3)


def _moved(x_B: Tensor, y_B: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x_B), torch.ones_like(x_B)
    return torch.stack((one, zero, x_B, zero, one, y_B, zero, zero, one), 1).view(-1, 3, 3)
