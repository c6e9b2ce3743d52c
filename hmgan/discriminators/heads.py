"""A discriminator's last layer, from embedding and label to logit. B batch, F embedding width, N classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.equalized import EqualLinear, he_gain
from hmgan.types import DiscOut, Terms, Weight

State = dict[str, Tensor]
Side = Literal["real", "fake", "gen"]  # whose images they are: D's real and fake ones, or those of G's own phase
LOGIT_PER_CLASS = "logit-per-class"


class Head(EqualLinear, ABC):
    """Constructed with (width F, classes N). Embeddings [B, F], labels [B] -> DiscOut."""

    def forward(self, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:  # type: ignore[override]
        return self.judge(super().forward(embedding_BF), embedding_BF, labels_B)

    @abstractmethod
    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        """What this head makes of its linear layer's logits, one of them or N."""

    def terms(self, out: DiscOut, labels_B: Tensor, side: Side) -> Terms:
        """What D, of reals and fakes, and G, of "gen", minimise besides the adversarial loss; usually nothing."""
        return {}

    def penalised(self, out: DiscOut, labels_B: Tensor) -> Tensor:
        """[B], what R1 keeps from growing steep."""
        return out.logit

    def at(self, kimg: float) -> None:
        """Where the training is, before each step. What of it changes is a function of that alone."""

    @abstractmethod
    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """This head's state from a pretrained linear layer of one logit: D then judges as its source does."""

    @abstractmethod
    def of_class(self, label: int) -> State:
        """The reverse: a linear layer of one logit that judges as this head judges one class."""


MakeHead = Callable[[int, int], Head]  # (embedding width, classes) -> the head


@register("disc-head", LOGIT_PER_CLASS)
class LogitPerClass(Head):
    """A linear layer with a logit per class, of which a sample takes its own class's, as the paper has it."""

    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        return DiscOut(logits_BN.gather(1, labels_B[:, None]).squeeze(1), embedding_BF)

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row for every class; a layer that has a row per class already stays as it is."""
        classes = len(self.bias)
        return {k: v.expand(classes, *v.shape[1:]) if len(v) == 1 else v for k, v in row.items()}

    def of_class(self, label: int) -> State:
        return {k: v[label : label + 1] for k, v in self.state_dict().items()}


@register("disc-head", "projection")
class Projection(Head):
    """linear(h) + <e_c, h>: a logit for all classes, and what the class adds (Miyato and Koyama 2018, Eq. 6)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, 1)
        # Unit-normal, and scaled in use, as every other weight.
        self.embedding = nn.Parameter(torch.randn(classes, width))

    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        of_class_B = (self.embedding[labels_B] * embedding_BF).sum(1) * he_gain(embedding_BF.shape[1])
        return DiscOut(logits_BN.squeeze(1) + of_class_B, embedding_BF)

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row, to which no class adds anything yet."""
        return {**row, "embedding": torch.zeros_like(self.embedding)}

    def of_class(self, label: int) -> State:
        return {"weight": self.weight + self.embedding[label], "bias": self.bias}


class Classifying(Head):
    """One logit for real or fake, which does not see the label, and a classifier beside it.

    Args:
        outputs: of the classifier.
        class_weight: of its loss.
        gen_class_weight: for G alone; left out: class_weight.
    """

    def __init__(self, width: int, outputs: int, class_weight: float, gen_class_weight: float | None) -> None:
        super().__init__(width, 1)
        self.classifier = EqualLinear(width, outputs)
        self.class_weight = class_weight
        self.gen_class_weight = class_weight if gen_class_weight is None else gen_class_weight

    def judge(self, logits_BN: Tensor, embedding_BF: Tensor, labels_B: Tensor) -> DiscOut:
        return DiscOut(logits_BN.squeeze(1), embedding_BF, self.classifier(embedding_BF))

    def from_source(self, row: Mapping[str, Tensor]) -> State:
        """The pretrained row for real or fake; the classifier is new."""
        return {**row, **{f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}}

    def of_class(self, label: int) -> State:
        return {"weight": self.weight, "bias": self.bias}


@register("disc-head", "auxiliary-classifier")
class AuxiliaryClassifier(Classifying):
    """One logit for real or fake, which does not see the label, and a classifier beside it (Odena et al. 2017).

    D learns the classes of real images and, as the paper has it, of fakes; G learns to be told apart by them.

    Args:
        class_weight: of the classification loss, -log P(own class | image) (AC-GAN's Eq. 3), for D and for G.
        gen_class_weight: for G alone; left out: class_weight. A quarter of D's keeps more variety within a class.
        class_fakes: whether D's classifier learns from fakes too, or from real images alone. From both, the networks
            may agree on classes of their own.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        class_weight: Weight = 1.0,
        gen_class_weight: Weight | None = None,
        class_fakes: bool = True,
    ) -> None:
        super().__init__(width, classes, class_weight, gen_class_weight)
        self.class_fakes = class_fakes

    def terms(self, out: DiscOut, labels_B: Tensor, side: Side) -> Terms:
        """The classification loss of each side that the classifier learns from."""
        if out.class_logits is None or (side == "fake" and not self.class_fakes):
            return {}
        weight = self.gen_class_weight if side == "gen" else self.class_weight
        return {f"loss/class-{side}": (weight, F.cross_entropy(out.class_logits, labels_B))}
