"""Self-alignment: random heads are pulled to the source, without images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from hmgan.components import register
from hmgan.config.experiment import Experiment, check_beside
from hmgan.config.settings import Choice
from hmgan.generators.transfer import TransferGenerator
from hmgan.losses.alignment import alignment_loss
from hmgan.train.draws import Microbatch
from hmgan.train.tasks.base import Gather, Phase, Stats, Task

WHY = "it pulls the heads of a hypernetwork to the source"


def aligning(experiment: Experiment) -> Experiment:
    """The experiment that aligns a transfer's heads. Raises UserError for a transfer without any."""
    choices = {
        "task": Choice(name="alignment"),
        "train": experiment.train.model_copy(update={"source": [], "unedited": False}),
    }
    aligned = experiment.model_copy(update=choices)
    check_beside(aligned)
    return aligned


@register("task", "alignment")
class Alignment(Task):
    """Eq. 6: the same latents through the source and through the transfer generator, features compared per block."""

    needs: ClassVar = {"modulation": WHY, "source": WHY}
    excludes: ClassVar = dict.fromkeys(("train.source", "train.unedited"), "leaves the source as it is")
    generator: TransferGenerator
    uses_images, needs_alignment, verb = False, False, "align"

    def phases(self, step: int, microbatches: Sequence[Microbatch]) -> Iterator[Phase]:
        yield Phase("align", self.gen, self.loss, average=self.ema)

    def loss(self, microbatch: Microbatch, gather: Gather) -> tuple[Tensor, Stats]:
        latents = self.generator.latents(microbatch.draws.keys("align"))
        with torch.no_grad(), self.mixed():
            source = self.generator.source(latents)
        with self.mixed():
            transferred = self.generator(latents, microbatch.labels)
        loss = alignment_loss(source.features, transferred.features)
        return loss, {"loss/align": loss}
