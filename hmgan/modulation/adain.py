"""Style modulation: the class vector changes the scale and shift of every AdaIN, or replaces them.

Legend: R rows (distinct classes), E class-vector width, C channels.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import AdaIN, ClassStyle, Edits
from hmgan.modulation.affine import AffineHead
from hmgan.modulation.base import Modulation, adaptive_norms


@register("modulation", "adain")
class AdaINHeads(Modulation):
    """h' = (1 + g_v) * h + t_v after every AdaIN: the paper's baseline in place of weight modulation.

    Args:
        init: "source" starts from the source network exactly (heads 0); "align" from random heads, to be
            self-aligned first; "random" from the same, left as they are.

    Shapes: v [R, E] -> Edits with R rows.
    """

    def __init__(self, backbone: Backbone, dim: int, *, init: Literal["source", "align", "random"] = "source") -> None:
        super().__init__()
        norms = adaptive_norms(backbone, "adain")
        spread = 0.0 if init == "source" else 1.0
        self.names = list(norms)
        self.heads = nn.ModuleList(AffineHead(dim, 2 * norm.channels, spread=spread) for norm in norms.values())

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE).chunk(2, 1) for name, head in zip(self.names, self.heads, strict=True)}
        edits = {name: AdaIN(scale, shift) for name, (scale, shift) in tables.items()}
        return Edits(styles=edits, rows=len(v_RE))


@register("modulation", "adain-class-only")
class ClassStyleHeads(Modulation):
    """gamma_v and beta_v in place of the style's in every AdaIN: the class alone decides them, z only draws the noise.

    The paper's variant without style. No start equals the source, whose images differ by style.

    Args:
        init: "source" starts from the scale and shift of the mean style, w averaged over z; "align" from random heads.

    Shapes: v [R, E] -> Edits with R rows.
    """

    def __init__(self, backbone: Backbone, dim: int, *, init: Literal["source", "align", "random"] = "source") -> None:
        super().__init__()
        norms = adaptive_norms(backbone, "adain-class-only")
        exact = init == "source"
        mean_W = backbone.mean_style()
        self.names = list(norms)
        self.heads = nn.ModuleList(
            AffineHead(
                dim,
                2 * norm.channels,
                bias=norm.style(mean_W[None])[0] if exact else None,
                spread=0.0 if exact else 1.0,
            )
            for norm in norms.values()
        )

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE).chunk(2, 1) for name, head in zip(self.names, self.heads, strict=True)}
        return Edits(styles={name: ClassStyle(*table) for name, table in tables.items()}, rows=len(v_RE))
