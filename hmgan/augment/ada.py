"""Adaptive discriminator augmentation (Karras et al. 2020). B batch, C channels, H = W pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hmgan.augment.base import uniforms
from hmgan.augment.pipe import COLOUR, GEOMETRY, colour, geometry
from hmgan.augment.resample import warped
from hmgan.components import register
from hmgan.types import Count, Positive, Share


@register("augment", "ada")
class AdaptiveAugment(nn.Module):
    """Blitting, geometry and colour ('bgc'), each with a probability p that keeps D from overfitting.

    Every few steps p rises if the mean sign of D's logits for reals is above its target, and falls otherwise.

    Args:
        target: the mean sign of D(real) to aim for; 1 means that D is sure of every real.
        kimg: thousands of images in which p rises from 0 to 1 at its fastest; the reference has 100 when resuming.
        every: D steps between changes of p.
        start: p at the beginning.

    Shapes: x_BCHW, keys [B] -> [B, C, H, W].
    Raises: UserError for settings out of range.
    """

    adapts = True
    p: Tensor
    signs: Tensor

    def __init__(self, *, target: Share = 0.6, kimg: Positive = 500.0, every: Count = 4, start: Share = 0.0) -> None:
        super().__init__()
        self.target, self.kimg, self.every = target, kimg, every
        self.register_buffer("p", torch.tensor(start))
        self.register_buffer("signs", torch.tensor(0.0))  # the sum of the mean signs since p last changed

    def forward(self, x_BCHW: Tensor, keys: Sequence[int]) -> Tensor:
        # In float64: a few numbers per image, and the tails of the normals need it.
        u_BD = uniforms(keys, GEOMETRY + COLOUR, x_BCHW.device).double()
        p = self.p.double()
        source_B33 = geometry(u_BD[:, :GEOMETRY], p, x_BCHW.shape[-1])
        moved_B = (source_B33 != torch.eye(3, device=source_B33.device)).flatten(1).any(1)
        # An image that is not moved stays the same to the bit.
        x = torch.where(moved_B[:, None, None, None], warped(x_BCHW, source_B33), x_BCHW)
        factor_B33, added_B3 = (t.to(x.dtype) for t in colour(u_BD[:, GEOMETRY:], p))
        return (factor_B33 @ x.flatten(2) + added_B3[..., None]).view_as(x)

    def observe(self, real_B: Tensor, step: int) -> dict[str, Tensor]:
        """Sets p to p + sign(E[sign D(real)] - target) * images / kimg, within 0 and 1, every few steps."""
        self.signs = self.signs + real_B.sign().mean().to(self.signs.dtype)
        if (step + 1) % self.every == 0:
            change = self.every * len(real_B) / (1000 * self.kimg)
            self.p = (self.p + change * torch.sign(self.signs / self.every - self.target)).clamp(0, 1)
            self.signs = torch.zeros_like(self.signs)
        return {"augment/p": self.p}
