"""Weight modulation: every kernel has a scale, shift and bias per class. R rows, E class-vector width, O/I channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import AdaFM, Added, Edits, LiveAdaFM, WeightEdit, kernel_statistics
from hmgan.modulation.affine import AffineHead, LowRankHead
from hmgan.modulation.base import Init, Modulation
from hmgan.types import Count, Site, Weight

# (class-vector width, (O, I), unit, the table at v = 0 or None for zero, spread) -> a head that emits [R, O * I]
TableHead = Callable[[int, tuple[int, int], float, Tensor | None, float], nn.Module]


RANK = 4  # where full heads would be too large


def full_table(dim: int, shape: tuple[int, int], unit: float, bias: Tensor | None, spread: float) -> AffineHead:
    """Every entry of a table has weights of its own: the paper's head."""
    return AffineHead(dim, shape[0] * shape[1], unit=unit, bias=bias, spread=spread)


class SiteHeads(nn.Module):
    """gamma_v, beta_v = g(v; Phi_a) and b_v = g_b(v; Phi_b) of one site (Eq. 3).

    The normalised weight (W - mu) / (sigma + epsilon) is computed once; where the convolutions train too (`live`), at
    every use. Epsilon keeps a constant kernel finite, which gamma = sigma + epsilon still reproduces exactly.
    """

    normal_OIkk: Tensor
    energy_OI: Tensor | None

    def __init__(
        self, site: Site, dim: int, init: Init, epsilon: float, live: bool = False, table: TableHead = full_table
    ) -> None:
        super().__init__()
        weight = site.weight.detach()
        mean, std = kernel_statistics(weight, site.axes)
        # Effective weights carry the site's gain, and so does sigma: epsilon is in the same units.
        floor = std + epsilon * site.gain
        self.live, self.epsilon, self.axes = live, epsilon, site.axes
        # A table entry per kernel [O, I], be it a 1x1 whose statistics are its row's; of a linear layer per row [O, 1].
        self.shape = table_shape(site)
        if not live:
            normal_OIkk = (weight - mean) / floor
            self.register_buffer("normal_OIkk", normal_OIkk, persistent=False)
            # Of a kernel normalised by itself, whose mean is 0.
            energy_OI = normal_OIkk.square().sum((2, 3)) if site.axes == (2, 3) else None
            self.register_buffer("energy_OI", energy_OI, persistent=False)
        scale, shift = (statistic.view(len(weight), -1).expand(self.shape) for statistic in (floor, mean))
        spread = 0.0 if init == "source" else 1.0
        self.scale = table(dim, self.shape, site.gain, None if spread else scale, spread)
        self.shift = table(dim, self.shape, site.gain, None if spread else shift, spread)
        self.bias = AffineHead(dim, weight.shape[0], spread=spread)

    def forward(self, v_RE: Tensor) -> WeightEdit:
        scale_ROI, shift_ROI = (head(v_RE).unflatten(1, self.shape) for head in (self.scale, self.shift))
        if self.live:
            return LiveAdaFM(self.epsilon, scale_ROI, shift_ROI, self.bias(v_RE), self.axes)
        return AdaFM(self.normal_OIkk, scale_ROI, shift_ROI, self.bias(v_RE), self.energy_OI)


class AddedHeads(nn.Module):
    """D_v, b_v = g(v; Phi) of a site to whose weight a class adds: to-RGB, a constant, Fourier features.

    None of them has kernels to normalise, and to-RGB alone reads amplitudes, for all else is demodulated.
    """

    def __init__(self, site: Site, dim: int, init: Init, table: TableHead) -> None:
        super().__init__()
        self.gain, self.shape = site.gain, site.weight.shape
        spread = 0.0 if init == "source" else 1.0
        self.change = table(dim, table_shape(site), site.gain, None, spread)
        # Constants and features have no bias.
        self.bias = AffineHead(dim, len(site.bias), spread=spread) if len(site.bias) else None

    def forward(self, v_RE: Tensor) -> WeightEdit:
        bias_RO = v_RE.new_zeros(len(v_RE), 0) if self.bias is None else self.bias(v_RE)
        return Added(self.gain, self.change(v_RE).unflatten(1, self.shape), bias_RO)


def table_shape(site: Site) -> tuple[int, int]:
    """Of a site's table: outputs and inputs; outputs alone for a linear layer's rows; all of a constant, by channel."""
    outputs, rest = len(site.weight), site.weight[0].numel()
    if site.additive:
        return outputs, rest
    return outputs, site.weight.shape[1] if site.weight.dim() == 4 else 1


def numbers(site: Site) -> int:
    """Entries of a site's tables, for one number of the class vector."""
    outputs, inputs = table_shape(site)
    return outputs * inputs * (1 if site.additive else 2) + len(site.bias)


@register("modulation", "adafm")
class AdaFMHeads(Modulation):
    """Affine heads for every convolution: Hyper-Mod, and with a one-hot class net GAN Memory (Eqs. 1-5).

    Args:
        init: "source" starts from the source network exactly, in closed form (gamma = sigma + epsilon, beta = mu,
            weights of the heads 0); "align" starts from random heads, for the paper's self-alignment; "random" trains
            them as they are, which shows what either start is worth.
        epsilon: added to sigma, in units of the site's gain.
        live: normalise the source's weights at every use, for a source whose convolutions train too.
        largest: numbers in the heads above which they are those of adafm-low-rank, of rank 4 on a frozen base: 1.1
            thousand million would make all weights of StyleGAN3-R.
    """

    edits_weights = True

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        table: TableHead | None = None,
        *,
        init: Init = "source",
        epsilon: Weight = 1e-5,
        live: bool = False,
        largest: Count = 500_000_000,
    ) -> None:
        super().__init__()
        self.names = list(backbone.sites())
        sites = [layer.site() for layer in backbone.sites().values()]
        full = dim * sum(numbers(site) for site in sites)
        if table is None and full > largest:
            self.note = f"heads of rank {RANK}: full ones would have {full:,} numbers, above modulation.largest"
            table = partial(LowRankHead, RANK, False)
        make = table or full_table
        self.heads = nn.ModuleList(
            AddedHeads(site, dim, init, make) if site.additive else SiteHeads(site, dim, init, epsilon, live, make)
            for site in sites
        )

    def forward(self, v_RE: Tensor) -> Edits:
        tables = {name: head(v_RE) for name, head in zip(self.names, self.heads, strict=True)}
        return Edits(weights=tables, rows=len(v_RE))


@register("modulation", "adafm-low-rank")
class LowRankAdaFMHeads(AdaFMHeads):
    """AdaFM whose classes share one table per site and differ from it in `rank` dimensions. Ours, not the paper's.

    gamma_v = gamma_0 + L_v R_v^T / sqrt(rank), and beta_v alike, from the heads' factors L [O, rank] and R [I, rank]:
    heads grow with rank * (O + I) and not with O * I, the memory of the full hypernetwork.

    Args:
        rank: columns of the factors, 1 or more.
        base: "trained" learns gamma_0 and beta_0; "frozen" leaves them where they start.
        init: where the factors start: "source" from the source network, "align" from random heads to be aligned
            first, "random" from the same, trained as they are.
        epsilon: added to sigma, in units of the site's gain.
        live: normalise the source's weights at every use, for a source whose convolutions train too.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        *,
        rank: Count = 4,
        base: Literal["trained", "frozen"] = "trained",
        init: Init = "source",
        epsilon: Weight = 1e-5,
        live: bool = False,
    ) -> None:
        table = partial(LowRankHead, rank, base == "trained")
        super().__init__(backbone, dim, table, init=init, epsilon=epsilon, live=live)
