"""cGANTransfer (Shahbazi et al. 2021): a new class's batch norms from those of a conditional source's old classes.

Legend: R rows (distinct classes), E class-vector width, K old classes, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import ClassStyle
from hmgan.modulation.propagation import Propagation, Propagations, Start


class ClassPropagation(nn.Module):
    """One norm's class parts: P(S(v)) + R(v), for its scale and for its shift."""

    def __init__(self, old_scale_KC: Tensor, old_shift_KC: Tensor, dim: int, init: Start) -> None:
        super().__init__()
        share_K = torch.full((len(old_scale_KC),), 1 / len(old_scale_KC)).to(old_scale_KC)
        self.scale = Propagation(old_scale_KC, share_K, dim, init)
        self.shift = Propagation(old_shift_KC, share_K, dim, init)

    def forward(self, v_RE: Tensor) -> ClassStyle:
        return ClassStyle(self.scale(v_RE), self.shift(v_RE))


@register("modulation", "cgan-transfer")
class CGANTransfer(Propagations):
    """Scale 1 + P(S(c)) + Z(z) + R(c) and a shift alike: replaces the class's part of the source and keeps z's, Z.

    P is the old classes' table as it acts in the source; the released code leaves the source's spectral norm out and
    applies one of its own, which recovers old classes only up to scale.

    Args:
        l1: weight of sum over layers of mean |S| in G's loss.
        l2: weight of sum over layers of mean R^2 in G's loss.
        init: "source" starts every class at the mean of the old classes; "orthogonal" from orthogonal S and R, as the
            released code; "align" likewise, to be aligned first.

    Raises: UserError for a source that is not class-conditional.
    """

    def __init__(
        self, backbone: Backbone, dim: int, *, l1: float = 0.01, l2: float = 0.1, init: Start = "orthogonal"
    ) -> None:
        old = backbone.old_classes()
        if not old:
            raise UserError(
                "modulation cgan-transfer needs a class-conditional source, and this source has no classes; "
                "use cgan-transfer-port"
            )
        super().__init__(old, (ClassPropagation(*parts, dim, init) for parts in old.values()), l1, l2)
