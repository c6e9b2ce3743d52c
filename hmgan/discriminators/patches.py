"""A discriminator on patches: its first blocks, and a logit per pixel of their maps. B batch, P pixels, F channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hmgan import rng
from hmgan.errors import UserError
from hmgan.layers.equalized import EqualConv2d
from hmgan.layers.float32 import unrounded, widened
from hmgan.types import DiscOut


class PatchDiscriminator(nn.Module):
    """D as far as its first blocks, and a 3x3 convolution to one channel (Ojha et al. 2021, section 3.2).

    Args:
        discriminator: shared with the whole D, not copied.
        blocks: of D, before the convolution; the more, the larger the patch that a logit sees.
        seed: of the convolution.

    Raises: UserError for a D without such blocks, or with fewer.
    """

    def __init__(self, discriminator: Any, blocks: int, seed: int) -> None:
        super().__init__()
        if not getattr(discriminator, "judges_patches", False):  # a registered D need not know of patches
            raise UserError("anchors need a D that can judge patches, as stylegan1 can; leave players out")
        if blocks > len(discriminator.blocks):
            got = f"got {blocks}, and D has {len(discriminator.blocks)}"
            raise UserError(f"players.patch_blocks counts blocks of D, {got}; lower it")
        self.discriminator, self.blocks = discriminator, blocks
        self.patch_head = EqualConv2d(discriminator.blocks[blocks - 1].conv2.weight.shape[0], 1, 3, padding=1)
        # From its own stream: the same on every rank, and when resumed.
        nn.init.normal_(self.patch_head.weight, generator=rng.generator(rng.key(seed, "patch-head", 0)))

    def idle(self, whole: bool) -> list[nn.Parameter]:
        """What has no part in judging whole images, or patches."""
        if whole:
            return list(self.patch_head.parameters())
        late = [child for name, child in self.discriminator.named_children() if name not in ("from_rgb", "blocks")]
        return [p for part in (*self.discriminator.blocks[self.blocks :], *late) for p in part.parameters()]

    def forward(self, images: Tensor, labels: Tensor, batches: int = 1) -> DiscOut:
        """[B, 3, H, W] -> a logit per patch, [B P], and features [B, F]; patches have no classes."""
        h = widened(self.discriminator.maps(images, self.blocks))
        with unrounded(h):
            return DiscOut(self.patch_head(h).flatten(), h.mean((2, 3)))
