"""Weight modulation: a hypernetwork turns the class vector into every convolution's scale, shift and bias.

Legend: R rows (distinct classes), E class-vector width, O/I channels out and in, k kernel size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hmgan.backbones.protocol import Backbone
from hmgan.components import register
from hmgan.modulation.affine import AffineHead
from hmgan.modulation.edits import AdaFM, Edits
from hmgan.types import Site


def kernel_statistics(weight_OIkk: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of every kernel over its k x k taps, each [O, I, 1, 1]."""
    std, mean = torch.std_mean(weight_OIkk, (2, 3), correction=1, keepdim=True)
    return mean, std


class SiteHeads(nn.Module):
    """gamma_v, beta_v = g(v; Phi_a) and b_v = g_b(v; Phi_b) of one site (Eq. 3).

    The normalised weight (W - mu) / (sigma + epsilon) is computed once: the source is frozen. Epsilon keeps a
    constant kernel, whose sigma is 0, finite; with gamma = sigma + epsilon it is still reproduced exactly.
    """

    normal_OIkk: Tensor

    def __init__(self, site: Site, dim: int, init: Literal["source", "align"], epsilon: float) -> None:
        super().__init__()
        weight = site.weight.detach()
        mean, std = kernel_statistics(weight)
        self.shape = (weight.shape[0], weight.shape[1])
        # Effective weights carry the site's gain, so sigma does too: epsilon is in the same units.
        floor = std + epsilon * site.gain
        self.register_buffer("normal_OIkk", (weight - mean) / floor, persistent=False)
        exact = init == "source"
        tables, spread = weight.shape[0] * weight.shape[1], 0.0 if exact else 1.0
        self.scale = AffineHead(dim, tables, unit=site.gain, bias=floor if exact else None, spread=spread)
        self.shift = AffineHead(dim, tables, unit=site.gain, bias=mean if exact else None, spread=spread)
        self.bias = AffineHead(dim, weight.shape[0], spread=spread)

    def forward(self, v_RE: Tensor) -> AdaFM:
        scale_ROI = self.scale(v_RE).unflatten(1, self.shape)
        shift_ROI = self.shift(v_RE).unflatten(1, self.shape)
        return AdaFM(self.normal_OIkk, scale_ROI, shift_ROI, self.bias(v_RE))


@register("modulation", "adafm")
class AdaFMHeads(nn.Module):
    """Affine heads for every convolution: Hyper-Mod, and with a one-hot class net GAN Memory (Eqs. 1-5).

    Args:
        init: "source" starts from the source network exactly, in closed form (gamma = sigma + epsilon, beta = mu,
            weights of the heads 0); "align" starts from random heads, for the paper's self-alignment.
        epsilon: added to sigma, in units of the site's gain.

    Shapes: v [R, E] -> Edits with R rows.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        *,
        init: Literal["source", "align"] = "source",
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.names = list(backbone.sites())
        self.heads = nn.ModuleList(SiteHeads(conv.site(), dim, init, epsilon) for conv in backbone.sites().values())

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE) for name, head in zip(self.names, self.heads, strict=True)}
        return Edits(weights=tables, rows=len(v_RE))
