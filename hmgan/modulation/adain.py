"""Style modulation: a class changes or replaces every scale and shift. R rows, E class-vector width, C channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import AdaIN, ClassStyle, Edits
from hmgan.modulation.affine import AffineHead
from hmgan.modulation.base import Init, Modulation, adaptive_norms


@register("modulation", "adain")
class AdaINHeads(Modulation):
    """h' = (1 + g_v) * h + t_v after every AdaIN: the paper's baseline in place of weight modulation.

    Args:
        init: "source" starts from the source network exactly (heads 0); "align" from random heads, to be
            self-aligned first; "random" from the same, left as they are.
    """

    scheme: ClassVar = "adain"
    edit: ClassVar[type[ClassStyle]] = AdaIN

    def __init__(self, backbone: Backbone, dim: int, *, init: Init = "source") -> None:
        super().__init__()
        norms, exact = adaptive_norms(backbone, self.scheme), init == "source"
        starts = self.starts(backbone) if exact else {}
        self.names = list(norms)
        self.heads = nn.ModuleList(
            AffineHead(dim, 2 * norm.channels, bias=starts.get(name), spread=0.0 if exact else 1.0)
            for name, norm in norms.items()
        )

    def starts(self, backbone: Backbone) -> Mapping[str, Tensor]:
        """What a norm's head emits at first, [2 C], under "source"; zero where it is left out."""
        return {}

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE).chunk(2, 1) for name, head in zip(self.names, self.heads, strict=True)}
        return Edits(styles={name: self.edit(*table) for name, table in tables.items()}, rows=len(v_RE))


@register("modulation", "adain-class-only")
class ClassStyleHeads(AdaINHeads):
    """gamma_v and beta_v in place of the style's in every AdaIN: the class alone decides them, z only draws the noise.

    The paper's variant without style. No start equals the source, whose images differ by style.

    Args:
        init: "source" starts from the scale and shift of the mean style, w averaged over z; "align" from random heads.
    """

    scheme = "adain-class-only"
    edit = ClassStyle

    def starts(self, backbone: Backbone) -> Mapping[str, Tensor]:
        """The scale and shift of the mean style."""
        mean_W = backbone.mean_style()
        return {name: norm.style(mean_W[None])[0] for name, norm in backbone.norms().items()}
