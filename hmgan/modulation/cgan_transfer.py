"""cGANTransfer (Shahbazi et al. 2021): a new class's batch norms from those of a conditional source's old classes.

Legend: R rows (distinct classes), E class-vector width, K old classes, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import ClassStyle, Edits
from hmgan.modulation.base import Modulation
from hmgan.modulation.propagation import Init, Propagation, propagation_penalties


class ClassPropagation(nn.Module):
    """One norm's class parts: P(S(v)) + R(v), for its scale and for its shift."""

    def __init__(self, old_scale_KC: Tensor, old_shift_KC: Tensor, dim: int, init: Init) -> None:
        super().__init__()
        share_K = torch.full((len(old_scale_KC),), 1 / len(old_scale_KC)).to(old_scale_KC)
        self.scale = Propagation(old_scale_KC, share_K, dim, init)
        self.shift = Propagation(old_shift_KC, share_K, dim, init)

    def forward(self, v_RE: Tensor) -> ClassStyle:
        return ClassStyle(self.scale(v_RE), self.shift(v_RE))


@register("modulation", "cgan-transfer")
class CGANTransfer(Modulation):
    """Scale 1 + P(S(c)) + Z(z) + R(c) and a shift alike: the class's part of the source is replaced, z's part Z stays.

    P is the old classes' own table, as it acts in the source; the released code leaves the source's spectral norm out
    of it and applies one of its own, which recovers old classes up to scale only.

    Args:
        l1: weight of sum over layers of mean |S| in G's loss.
        l2: weight of sum over layers of mean R^2 in G's loss.
        init: "source" starts every class at the mean of the old classes; "orthogonal" from orthogonal S and R, as the
            released code; "align" likewise, to be aligned first.

    Shapes: v [R, E] -> Edits with R rows.
    Raises: UserError for a source that is not class-conditional.
    """

    def __init__(
        self, backbone: Backbone, dim: int, *, l1: float = 0.01, l2: float = 0.1, init: Init = "orthogonal"
    ) -> None:
        super().__init__()
        old = backbone.old_classes()
        if not old:
            raise UserError(
                "modulation cgan-transfer needs a class-conditional source, and this source has no classes; "
                "use cgan-transfer-port"
            )
        self.l1, self.l2 = l1, l2
        self.names = list(old)
        self.norms = nn.ModuleList(ClassPropagation(*parts, dim, init) for parts in old.values())

    def forward(self, v_RE: Tensor) -> Edits:
        parts = {name: norm(v_RE) for name, norm in zip(self.names, self.norms, strict=True)}
        return Edits(styles=parts, rows=len(v_RE))

    def penalties(self) -> Mapping[str, Tensor]:
        return propagation_penalties([part for n in self.norms for part in (n.scale, n.shift)], self.l1, self.l2)
