"""A class's gamma, beta or b alone, the rest as in the source (Fig. 2). R rows, O/I channels, k kernel size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hmgan.layers.edits import Edits, WeightEdit
from hmgan.layers.sites import WeightSite
from hmgan.types import Site


@dataclass(frozen=True)
class Partly(WeightEdit):
    """Some parts of a weight edit; the others are the source's: gamma = sigma, beta = mu, b = 0.

    A normalised kernel has mean 0 (Eq. 4), so that beta is an edited one's mean and gamma decides the rest: both are
    read off the kernels, whatever edit made them.
    """

    edit: WeightEdit
    source: Site
    gamma: bool
    beta: bool
    b: bool

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        own_ROIkk, own_RO = self.edit.weights(weight_OIkk, bias_O)
        source_ROIkk = self.source.weight.expand_as(own_ROIkk)
        axes = tuple(axis - self.source.weight.dim() for axis in self.source.axes)
        own_mean, source_mean = (weight.mean(axes, keepdim=True) for weight in (own_ROIkk, source_ROIkk))
        centred = own_ROIkk - own_mean if self.gamma else source_ROIkk - source_mean
        weight_ROIkk = centred + (own_mean if self.beta else source_mean)
        return weight_ROIkk, own_RO if self.b else bias_O.expand_as(own_RO)


def partly(
    edits: Edits, sites: Mapping[str, WeightSite], *, gamma: bool = False, beta: bool = False, b: bool = False
) -> Edits:
    """The weight edits of these parts alone; `sites` are the source's."""
    kept = {name: Partly(edit, sites[name].site(), gamma, beta, b) for name, edit in edits.weights.items()}
    return Edits(weights=kept, rows=edits.rows)
