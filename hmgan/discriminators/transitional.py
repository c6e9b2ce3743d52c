"""Transitional cGAN's head (Shahbazi et al. 2022, arXiv:2201.06578). B batch, F embedding width, N classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from hmgan.components import register
from hmgan.discriminators.heads import Head, Side, State
from hmgan.layers.equalized import EqualLinear
from hmgan.types import DiscOut, Positive, Terms, Weight


@register("disc-head", "transitional")
class Transitional(Head):
    """The source's own logit, which no class changes, and a logit per class whose game is faded in: L_u + lambda_t L_c.

    lambda_t rises from 0 to 1 in a straight line. L_u is the experiment's adversarial loss, L_c the logistic one. Every
    class begins with the source's row, so that classes part from a judgement that is right.

    Args:
        start: kimg at which lambda_t begins to rise.
        span: kimg until it is 1.
    """

    def __init__(self, width: int, classes: int, *, start: Weight = 0.0, span: Positive = 100.0) -> None:
        super().__init__(width, 1)
        self.per_class = EqualLinear(width, classes)
        self.start, self.span = start, span
        self.at(0.0)

    def at(self, kimg: float) -> None:
        self.share = min(max((kimg - self.start) / self.span, 0.0), 1.0)

    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        return DiscOut(logits_BN.squeeze(1), embedding_BF, self.per_class(embedding_BF))

    def terms(self, out: DiscOut, labels_B: Tensor, side: Side) -> Terms:
        """lambda_t times L_c of this side."""
        own_B = _own(out, labels_B)
        return {f"loss/class-{side}": (self.share, F.softplus(own_B if side == "fake" else -own_B).mean())}

    def penalised(self, out: DiscOut, labels_B: Tensor) -> Tensor:
        return out.logit + self.share * _own(out, labels_B)

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row, as L_u's and as that of each class."""
        classes = len(self.per_class.bias)
        return {**row, **{f"per_class.{k}": v.expand(classes, *v.shape[1:]) for k, v in row.items()}}

    def of_class(self, label: int) -> State:
        return {"weight": self.weight, "bias": self.bias}


def _own(out: DiscOut, labels_B: Tensor) -> Tensor:
    assert out.class_logits is not None
    return out.class_logits.gather(1, labels_B[:, None]).squeeze(1)
