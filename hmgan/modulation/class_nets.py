"""Class networks C: where the class vector v comes from. R rows (labels), E class-vector width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.equalized import EqualLinear, he_gain, unit_mean_square
from hmgan.types import Count


@register("class-net", "one-hot")
class OneHot(nn.Module):
    """v is the label itself, so that an affine head is a table with a free row per class (GAN Memory)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.dim = classes

    def forward(self, labels_R: Tensor) -> Tensor:
        return F.one_hot(labels_R, self.dim).to(torch.get_default_dtype())


@register("class-net", "embedding")
class Embedding(nn.Module):
    """v = s(E) * a learned unit-normal row per class (Hyper-Mod A).

    Args:
        dim: E, the width of the class vector.
        shared: start every class from the same row, as self-alignment of one class leaves them.
    """

    def __init__(self, classes: int, *, dim: Count = 64, shared: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.randn(1, dim).repeat(classes, 1) if shared else torch.randn(classes, dim))
        self.gain = he_gain(dim)

    def forward(self, labels_R: Tensor) -> Tensor:
        return F.embedding(labels_R, self.weight) * self.gain


@register("class-net", "mlp")
class ClassMLP(nn.Module):
    """An embedding followed by an MLP whose output space is the paper's V (Hyper-Mod B).

    Args:
        dim: E, width of the embedding and of every layer.
        layers: depth; the last layer is activated too, as in the released code.
        shared: start every class from the same embedding.
        unit: v has unit mean square, as StyleGAN's z has. As the paper has it, v's entries begin at about 0.17, and by
            so much slower does what a class changes learn than what all classes share.
    """

    def __init__(
        self, classes: int, *, dim: Count = 64, layers: Count = 4, shared: bool = False, unit: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.unit = dim, unit
        self.embedding = Embedding(classes, dim=dim, shared=shared)
        steps = ((EqualLinear(dim, dim), nn.LeakyReLU(0.2)) for _ in range(layers))
        self.layers = nn.Sequential(*(module for step in steps for module in step))

    def forward(self, labels_R: Tensor) -> Tensor:
        v_RE = self.layers(self.embedding(labels_R))
        return unit_mean_square(v_RE) if self.unit else v_RE
