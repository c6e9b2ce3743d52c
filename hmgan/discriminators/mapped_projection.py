"""StyleGAN2's conditional head: a projection onto a mapped class. B batch, N classes, F features, M mapped width."""

from __future__ import annotations

import math
from collections.abc import Mapping as State

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.discriminators.heads import Head
from hmgan.layers.mapping import Mapping
from hmgan.types import Count, DiscOut


@register("disc-head", "mapped-projection")
class MappedProjection(Head):
    """<linear(h), m(c)> / sqrt(M), m a mapping network without z (Karras et al. 2020b).

    Args:
        mapped_dim: M, width of the mapping and of the linear layer.
        layers: depth of the mapping.
    """

    def __init__(self, width: int, classes: int, *, mapped_dim: Count = 512, layers: Count = 8) -> None:
        super().__init__(width, mapped_dim)
        self.classes, self.last = classes, f"fc{layers - 1}"
        self.mapping = Mapping(0, classes, mapped_dim, layers)

    def mapped(self) -> Tensor:
        """m(c) / sqrt(M) of every class, [N, M]."""
        eye_NN = torch.eye(self.classes, device=self.weight.device, dtype=self.weight.dtype)
        return self.mapping(eye_NN) / math.sqrt(len(self.weight))

    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        return DiscOut((logits_BN * F.embedding(labels_B, self.mapped())).sum(1), embedding_BF)

    def from_source(self, row: State[str, Tensor]) -> dict[str, Tensor]:
        """The pretrained row in every row, and all classes mapped to ones; a head like this one as it is."""
        if "mapping.embed.weight" in row:
            return dict(row)
        own, width = self.state_dict(), len(self.weight)
        last: nn.Module = self.mapping.get_submodule(self.last)
        assert isinstance(last.lr_mult, float)
        ones = {
            f"mapping.{self.last}.weight": torch.zeros_like(own[f"mapping.{self.last}.weight"]),
            # Behind the leaky ReLU's sqrt(2).
            f"mapping.{self.last}.bias": torch.full_like(self.bias, 1 / (math.sqrt(2) * last.lr_mult)),
        }
        rows = {k: v.expand(width, *v.shape[1:]) / math.sqrt(width) for k, v in row.items()}
        return {**own, **ones, **rows}

    def of_class(self, label: int) -> dict[str, Tensor]:
        share_M = self.mapped()[label]
        return {"weight": (share_M @ self.weight)[None], "bias": (share_M @ self.bias)[None]}


def mean_class(row: State[str, Tensor]) -> dict[str, Tensor]:
    """One linear layer that judges as such a head does of its classes on average."""
    embed_MN = row["mapping.embed.weight"]
    layers = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in row)
    head = MappedProjection(row["weight"].shape[1], embed_MN.shape[1], mapped_dim=len(embed_MN), layers=layers)
    head.load_state_dict(dict(row))
    with torch.no_grad():
        share_M = head.mapped().mean(0)
        return {"weight": (share_M @ head.weight)[None], "bias": (share_M @ head.bias)[None]}
