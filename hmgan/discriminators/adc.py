"""ADC-GAN's head (Hou et al. 2022, arXiv:2107.10060). B batch, F embedding width, N classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hmgan.components import register
from hmgan.discriminators.heads import Classifying, Side
from hmgan.types import DiscOut, Terms, Weight


@register("disc-head", "adc")
class DiscriminativeClassifier(Classifying):
    """One logit for real or fake, and a classifier of 2N: each class of real images, and each of fakes (ADC-GAN).

    D learns a real image of class c as (real, c) and a fake as (fake, c). G minimises log P(fake, c) - log P(real, c)
    of its images, which is the difference of two logits. A classifier of reals alone rewards images that are typical of
    their class, and the classes lose their variety; this one does not (Hou et al. 2022, Theorem 1).

    Args:
        class_weight: of D's classification loss.
        gen_class_weight: of G's term; left out: class_weight.
    """

    def __init__(
        self, width: int, classes: int, *, class_weight: Weight = 1.0, gen_class_weight: Weight | None = None
    ) -> None:
        super().__init__(width, 2 * classes, class_weight, gen_class_weight)  # the real classes, then the fake ones

    def terms(self, out: DiscOut, labels_B: Tensor, side: Side) -> Terms:
        """D: the cross-entropy of (real, c) or (fake, c). G: logit (fake, c) less logit (real, c)."""
        assert out.class_logits is not None
        classes = out.class_logits.shape[1] // 2
        if side != "gen":
            wanted_B = labels_B if side == "real" else labels_B + classes
            return {f"loss/class-{side}": (self.class_weight, F.cross_entropy(out.class_logits, wanted_B))}
        real_B, fake_B = (logits_BN.gather(1, labels_B[:, None]) for logits_BN in out.class_logits.split(classes, 1))
        return {"loss/class-gen": (self.gen_class_weight, (fake_B - real_B).mean())}
