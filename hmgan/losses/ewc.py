"""Elastic weight consolidation. P one parameter tensor, N samples of one pass."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hmgan import rng
from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.losses.base import OF_FINE_TUNING, Adaptation, Transferred
from hmgan.types import Count, Weight


@register("gen-penalty", "ewc")
class ElasticWeights:
    """sum_i F_i (theta_i - theta_i^S)^2: what matters to the source's images is held, the rest may move.

    Li et al. 2020, arXiv:2012.02780. F_i = E[(d log p / d theta_i)^2] over the source's own images. A GAN has no
    likelihood: log sigmoid(D(G(z))) of the source's D stands in for it. Gradients are squared per sample, before the
    mean; D's minibatch deviation sees the pass that the sample is in.

    Args:
        weight: of the penalty in G's loss.
        samples: source images in the mean.
        group: samples per pass.
        seed: of those samples; not the run's, so that runs of all seeds have one Fisher information.

    Raises: UserError unless `group` divides `samples`.
    """

    excludes: ClassVar = OF_FINE_TUNING
    copies = True
    least = 1

    def __init__(
        self, transferred: Transferred, *, weight: Weight = 1.0, samples: Count = 256, group: Count = 8, seed: int = 0
    ) -> None:
        if samples % group:
            raise UserError(f"ewc needs samples in whole groups, got {samples} samples and group {group}; change one")
        self.weight, self._transferred = weight, transferred
        self._samples, self._group, self._seed = samples, group, seed
        self._terms: list[tuple[Tensor, Tensor, Tensor]] | None = None

    def __call__(self, phase: Adaptation) -> Tensor:
        if self._terms is None:  # not in the constructor: a dry run does not need it
            source, discriminator, adapted = self._transferred
            importance = fisher(source, discriminator, self._samples, self._group, self._seed)
            own, origin = dict(adapted.named_parameters()), dict(source.named_parameters())
            self._terms = [(own[name], origin[name], value) for name, value in importance.items()]
        return torch.stack([(f_P * (p_P - o_P).square()).sum() for p_P, o_P, f_P in self._terms]).sum()


@torch.enable_grad()
def fisher(source: Backbone, discriminator: nn.Module, samples: int, group: int, seed: int) -> dict[str, Tensor]:
    """Parameter name -> mean over samples of its squared gradient of log sigmoid(D(G(z))); networks stay untouched."""
    theta = {name: p.detach().requires_grad_() for name, p in source.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in theta.items()}
    for first in range(0, samples, group):
        latents = source.latents(rng.keys(seed, "fisher", first, group))
        image = functional_call(source, theta, (latents,)).image
        labels_N = torch.zeros(group, dtype=torch.long, device=image.device)
        for likelihood in F.logsigmoid(discriminator(image, labels_N).logit):
            grads = torch.autograd.grad(likelihood, list(theta.values()), retain_graph=True, materialize_grads=True)
            for sum_P, grad_P in zip(total.values(), grads, strict=True):
                sum_P.addcmul_(grad_P, grad_P, value=1 / samples)
    return total
