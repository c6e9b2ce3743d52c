"""cGANTransfer for an unconditional StyleGAN. R rows, E class-vector width, K clusters, W style width, C channels."""

from __future__ import annotations

from torch import Tensor

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import StyleOffset
from hmgan.modulation.base import adaptive_norms
from hmgan.modulation.clusters import k_means
from hmgan.modulation.propagation import NormPropagation, Propagations, Start
from hmgan.types import Count, Weight


class OffsetPropagation(NormPropagation):
    """One AdaIN's offsets: P(S(v)) + R(v) less the source's mean, for its scale and for its shift."""

    def __init__(self, old_K2C: Tensor, share_K: Tensor, dim: int, init: Start) -> None:
        old_scale_KC, old_shift_KC = old_K2C.chunk(2, 1)
        super().__init__(old_scale_KC, old_shift_KC, share_K, dim, init)
        self.register_buffer("mean_scale_C", share_K @ old_scale_KC)
        self.register_buffer("mean_shift_C", share_K @ old_shift_KC)

    def forward(self, v_RE: Tensor) -> StyleOffset:
        return StyleOffset(self.scale(v_RE) - self.mean_scale_C, self.shift(v_RE) - self.mean_shift_C)


@register("modulation", "cgan-transfer-port")
class CGANTransferPort(Propagations):
    """Knowledge propagation (Shahbazi et al. 2021) on AdaIN. A port: the original needs a class-conditional source.

    The original's scale is 1 + P(S(c)) + Z(z) + R(c), with P the old classes' scales and Z the latent's part. Here K
    clusters of w, found by k-means, are the old classes, P is their AdaIN styles, and Z is how far a sample's style is
    from the mean one: AdaIN's scale and shift are affine in w, so that the parts of the source sum to it exactly.

    Args:
        clusters: K, how many clusters of w stand for old classes.
        seed: of k-means' first centres.
        l1: weight of sum over layers of mean |S| in G's loss.
        l2: weight of sum over layers of mean R^2 in G's loss.
        init: "source" starts from the source network exactly; "orthogonal" from orthogonal S and R, as the released
            code; "align" likewise, to be aligned first.

    Raises: UserError for a source without adaptive normalisations, or a number of clusters that cannot be.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        *,
        clusters: Count = 16,
        seed: int = 0,
        l1: Weight = 0.01,
        l2: Weight = 0.1,
        init: Start = "source",
    ) -> None:
        norms = adaptive_norms(backbone, "cgan-transfer-port")
        w_KW, share_K = k_means(backbone.style_samples(), clusters, seed)
        propagations = (OffsetPropagation(norm.style(w_KW).detach(), share_K, dim, init) for norm in norms.values())
        super().__init__(norms, propagations, l1, l2)
