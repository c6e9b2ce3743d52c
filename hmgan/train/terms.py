"""What D and G minimise, from an experiment's choices."""

from __future__ import annotations

import copy
from typing import Any

import torch

from hmgan import components
from hmgan.config.experiment import Choice, Experiment
from hmgan.generators.build import Networks
from hmgan.losses.base import Transferred
from hmgan.losses.r1 import gamma_heuristic
from hmgan.train.precision import Mixed, layout
from hmgan.train.tasks.gan import Penalties, Restraint, Rules


def rules(experiment: Experiment, device: torch.device, mixed: Mixed) -> Rules:
    """The objective, what D is shown, and in which precision networks pass."""
    adversarial = chosen("adversarial", experiment.adversarial, device)
    train, augment = experiment.train, chosen("augment", experiment.augment, device)
    return Rules(adversarial, train.class_weight, train.class_fakes, augment, mixed, layout(train))


def penalties(experiment: Experiment, resolution: int, device: torch.device) -> Penalties:
    """D's penalties with gamma worked out."""
    r1 = experiment.r1
    gamma = gamma_heuristic(resolution, experiment.train.batch) if r1.gamma == "auto" else float(r1.gamma)
    regularizer = chosen("regularizer", experiment.regularizer, device)
    if experiment.contrastive is None:
        return Penalties(gamma, r1.every, regularizer=regularizer)
    # Here, not above: kornia takes seconds to import, and only contrastive losses need it.
    from hmgan.augment.views import Views

    contrastive = chosen("contrastive", experiment.contrastive, device)
    weight = experiment.train.contrastive_weight
    return Penalties(gamma, r1.every, contrastive, weight, Views().to(device), regularizer)


def chosen(kind: str, choice: Choice | None, device: torch.device) -> Any:
    """The component that an experiment names, on the device; None where it names none."""
    return None if choice is None else components.build(kind, choice.name, **choice.options).to(device)


def restraint(experiment: Experiment, networks: Networks) -> Restraint | None:
    """G's penalty, with copies of both networks as they are: before the first step, those of the source."""
    choice = experiment.gen_penalty
    if choice is None:
        return None
    backbone = networks.generator.backbone
    source, discriminator = (copy.deepcopy(n).requires_grad_(False) for n in (backbone, networks.discriminator))
    parts = Transferred(source, discriminator, backbone)
    penalty = components.build("gen-penalty", choice.name, parts, **choice.options)
    return Restraint(penalty, experiment.train.gen_penalty_weight)
