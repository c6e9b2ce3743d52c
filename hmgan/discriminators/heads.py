"""A discriminator's last layer: from its embedding and the label to the logit.

Legend: B batch, F embedding width, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.equalized import EqualLinear, he_gain
from hmgan.types import DiscOut

State = dict[str, Tensor]
LOGIT_PER_CLASS = "logit-per-class"


@register("disc-head", LOGIT_PER_CLASS)
class LogitPerClass(EqualLinear):
    """A linear layer with a logit per class, of which a sample takes its own class's, as the paper has it.

    Shapes: embedding_BF, labels_B -> logits [B].
    """

    def forward(self, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:  # type: ignore[override]
        logit_BN = super().forward(embedding_BF)
        return DiscOut(logit_BN.gather(1, labels_B[:, None]).squeeze(1), embedding_BF)

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row for every class; a layer that has a row per class already stays as it is."""
        classes = len(self.bias)
        return {k: v.expand(classes, *v.shape[1:]) if len(v) == 1 else v for k, v in row.items()}

    def of_class(self, label: int) -> State:
        """The class's row."""
        return {k: v[label : label + 1] for k, v in self.state_dict().items()}


@register("disc-head", "projection")
class Projection(EqualLinear):
    """linear(h) + <e_c, h>: a logit for all classes, and what the class adds (Miyato and Koyama 2018, Eq. 6).

    Shapes: embedding_BF, labels_B -> logits [B].
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, 1)
        # Unit-normal, and scaled in use, as every other weight here.
        self.embedding = nn.Parameter(torch.randn(classes, width))

    def forward(self, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:  # type: ignore[override]
        of_class_B = (self.embedding[labels_B] * embedding_BF).sum(1) * he_gain(embedding_BF.shape[1])
        return DiscOut(super().forward(embedding_BF).squeeze(1) + of_class_B, embedding_BF)

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row, to which no class adds anything yet."""
        return {**row, "embedding": torch.zeros_like(self.embedding)}

    def of_class(self, label: int) -> State:
        """The row for all classes, and what the class adds to it."""
        return {"weight": self.weight + self.embedding[label], "bias": self.bias}


@register("disc-head", "auxiliary-classifier")
class AuxiliaryClassifier(EqualLinear):
    """One logit for real or fake, which does not see the label, and a classifier beside it (Odena et al. 2017).

    `train.class_weight` times the classification loss is added to both phases.

    Shapes: embedding_BF, labels_B -> logits [B] and class logits [B, N].
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, 1)
        self.classifier = EqualLinear(width, classes)

    def forward(self, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:  # type: ignore[override]
        logit_B = super().forward(embedding_BF).squeeze(1)
        return DiscOut(logit_B, embedding_BF, self.classifier(embedding_BF))

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row for real or fake; the classifier is new."""
        return {**row, **{f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}}

    def of_class(self, label: int) -> State:
        """The row for real or fake, which is every class's."""
        return {"weight": self.weight, "bias": self.bias}
