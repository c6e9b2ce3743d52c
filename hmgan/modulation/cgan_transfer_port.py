"""cGANTransfer ported to an unconditional StyleGAN: clusters of its styles stand for the old classes.

Legend: R rows (distinct classes), E class-vector width, K clusters, W style width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits, per_sample
from hmgan.modulation.base import Modulation, adaptive_norms
from hmgan.modulation.clusters import k_means
from hmgan.modulation.propagation import Init, Propagation, propagation_penalties


@dataclass(frozen=True)
class StyleOffset:
    """What a class adds to the style's own scale and shift."""

    scale_RC: Tensor
    shift_RC: Tensor

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return scale_BC + per_sample(self.scale_RC, counts), shift_BC + per_sample(self.shift_RC, counts)


class NormPropagation(nn.Module):
    """One AdaIN's offsets: P(S(v)) + R(v) less the source's mean, for its scale and for its shift."""

    def __init__(self, old_K2C: Tensor, share_K: Tensor, dim: int, init: Init) -> None:
        super().__init__()
        old_scale_KC, old_shift_KC = old_K2C.chunk(2, 1)
        self.scale = Propagation(old_scale_KC, share_K, dim, init)
        self.shift = Propagation(old_shift_KC, share_K, dim, init)
        self.register_buffer("mean_scale_C", share_K @ old_scale_KC)
        self.register_buffer("mean_shift_C", share_K @ old_shift_KC)

    def forward(self, v_RE: Tensor) -> StyleOffset:
        return StyleOffset(self.scale(v_RE) - self.mean_scale_C, self.shift(v_RE) - self.mean_shift_C)


@register("modulation", "cgan-transfer-port")
class CGANTransferPort(Modulation):
    """Knowledge propagation (Shahbazi et al. 2021) on AdaIN. A port: the original needs a class-conditional source.

    The original's scale is 1 + P(S(c)) + Z(z) + R(c), with P the old classes' scales and Z the latent's part. Here K
    clusters of w, found by k-means, are the old classes, their AdaIN styles P, and the deviation of a sample's style
    from the mean style Z: AdaIN's scale and shift are affine in w, so the parts of the source sum to it exactly.

    Args:
        clusters: K, how many clusters of w stand for old classes.
        seed: of k-means' first centres.
        l1: weight of sum over layers of mean |S| in G's loss.
        l2: weight of sum over layers of mean R^2 in G's loss.
        init: "source" starts from the source network exactly; "orthogonal" from orthogonal S and R, as the released
            code; "align" likewise, to be aligned first.

    Shapes: v [R, E] -> Edits with R rows.
    Raises: UserError for a source without adaptive normalisations, or a number of clusters that cannot be.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        *,
        clusters: int = 16,
        seed: int = 0,
        l1: float = 0.01,
        l2: float = 0.1,
        init: Init = "source",
    ) -> None:
        super().__init__()
        norms = adaptive_norms(backbone, "cgan-transfer-port")
        self.l1, self.l2 = l1, l2
        w_KW, share_K = k_means(backbone.style_samples(), clusters, seed)
        self.names = list(norms)
        self.norms = nn.ModuleList(
            NormPropagation(norm.style(w_KW).detach(), share_K, dim, init) for norm in norms.values()
        )

    def forward(self, v_RE: Tensor) -> Edits:
        offsets = {name: norm(v_RE) for name, norm in zip(self.names, self.norms, strict=True)}
        return Edits(styles=offsets, rows=len(v_RE))

    def penalties(self) -> Mapping[str, Tensor]:
        return propagation_penalties([part for n in self.norms for part in (n.scale, n.shift)], self.l1, self.l2)
