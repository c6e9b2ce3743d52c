"""Activation modulation: the class vector scales and shifts what leaves every AdaIN.

Legend: R rows (distinct classes), E class-vector width, C channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hmgan.backbones.protocol import Backbone
from hmgan.components import register
from hmgan.modulation.affine import AffineHead
from hmgan.modulation.edits import AdaIN, Edits


@register("modulation", "adain")
class AdaINHeads(nn.Module):
    """h' = (1 + g_v) * h + t_v after every AdaIN: the paper's baseline in place of weight modulation.

    Args:
        init: "source" starts from the source network exactly (heads 0); "align" from random heads.

    Shapes: v [R, E] -> Edits with R rows.
    """

    def __init__(self, backbone: Backbone, dim: int, *, init: Literal["source", "align"] = "source") -> None:
        super().__init__()
        norms = backbone.norms()
        spread = 0.0 if init == "source" else 1.0
        self.names = list(norms)
        self.heads = nn.ModuleList(AffineHead(dim, 2 * norm.channels, spread=spread) for norm in norms.values())

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE).chunk(2, 1) for name, head in zip(self.names, self.heads, strict=True)}
        edits = {name: AdaIN(scale, shift) for name, (scale, shift) in tables.items()}
        return Edits(activations=edits, rows=len(v_RE))
