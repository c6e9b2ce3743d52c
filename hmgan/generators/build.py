"""From a resolved experiment to networks."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.config.settings import Choice
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LOGIT_PER_CLASS, MakeHead
from hmgan.errors import UserError
from hmgan.generators.base import Generator
from hmgan.generators.source import Source, component
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import LabelledGenerator, UnconditionalGenerator
from hmgan.layers.backbone import Backbone


class Networks(NamedTuple):
    """Both networks of an experiment."""

    generator: Generator
    discriminator: Discriminator


def build(experiment: Experiment, source: Source | None, classes: int) -> Networks:
    """Both networks of an experiment, seeded by it.

    Args:
        source: what is transferred; None for pretraining.
        classes: number of classes in the data; 1 where labels are not used.
    Raises: UserError if the source, or a backbone with classes of its own, does not fit.
    """
    torch.manual_seed(experiment.train.seed)
    return Networks(_generator(experiment, source, classes), _discriminator(experiment, source, classes))


def _generator(experiment: Experiment, source: Source | None, classes: int) -> Generator:
    """A source or a new backbone: under class net and modulation, without labels, or with classes of its own."""
    choice = experiment.backbone
    backbone: Any = component("backbone", choice) if choice is not None else None
    if experiment.modulation is not None:
        if source is not None:
            unedited = source.backbone.unedited() if experiment.train.unedited else []
            train_parts(source.backbone, [*unedited, *experiment.train.source])
        return transfer_generator(experiment, source.backbone if source else backbone, classes)
    if not experiment.conditional:
        return UnconditionalGenerator(fine_tuned(experiment, source) if source else backbone)
    if choice is None:
        wanted = "a class_net and a modulation, or a backbone with classes"
        raise UserError(f"train.labels needs {wanted}; name them, or leave train.labels out")
    own = max((len(scale_KC) for scale_KC, _ in backbone.old_classes().values()), default=0)
    if own != classes:
        wanted = f"use a class-conditional backbone with --set backbone.classes={classes}"
        raise UserError(f"train.labels gives {classes} classes and backbone {choice.name!r} has {own}; {wanted}")
    return LabelledGenerator(backbone)


def transfer_generator(experiment: Experiment, backbone: Backbone, classes: int) -> TransferGenerator:
    """The backbone under the experiment's class net and modulation; what of it requires gradients trains.

    Raises: UserError if convolutions train that the modulation normalises once.
    """
    assert experiment.class_net is not None
    assert experiment.modulation is not None
    class_net = component("class-net", experiment.class_net, classes)
    modulation = component("modulation", experiment.modulation, backbone, class_net.dim)
    convolutions = [site.weight for site in backbone.sites().values()]
    if experiment.modulation.options.get("live") is False and any(w.requires_grad for w in convolutions):
        once = f"which modulation {experiment.modulation.name!r} normalises once"
        raise UserError(f"convolutions train, {once}; add --set modulation.live=true")
    return TransferGenerator(backbone, class_net, modulation, any(p.requires_grad for p in backbone.parameters()))


def train_parts(source: nn.Module, patterns: Sequence[str]) -> None:
    """Freezes a source except for the parameters that match a pattern, such as "blocks.*.norm?.*" or "*".

    Raises: UserError for a pattern that matches nothing.
    """
    named = dict(source.requires_grad_(False).named_parameters())
    for pattern in patterns:
        matching = fnmatch.filter(named, pattern)
        if not matching:
            parts = sorted({name.split(".")[0] for name in named})
            raise UserError(f"train.source {pattern!r} matches nothing in the source; its parts: {', '.join(parts)}")
        for name in matching:
            named[name].requires_grad_(True)


def fine_tuned(experiment: Experiment, source: Source) -> Backbone:
    """The source's backbone, which trains whole, with the new parts that the experiment's players ask for."""
    if not _asked_of_backbone(experiment):
        return source.backbone
    backbone: Backbone = component("backbone", fine_tuned_choice(experiment, source))
    backbone.load_state_dict({**backbone.state_dict(), **source.backbone.state_dict()})
    return backbone


def fine_tuned_choice(experiment: Experiment, source: Source) -> Choice:
    """What `fine_tuned` builds."""
    return Choice(**{**source.config["backbone"], **_asked_of_backbone(experiment)})


def _asked_of_backbone(experiment: Experiment) -> Mapping[str, Any]:
    choice = experiment.players
    return {} if choice is None else getattr(components.get("players", choice.name), "backbone", {})


def _discriminator(experiment: Experiment, source: Source | None, classes: int) -> Discriminator:
    """The source's own discriminator with the experiment's head, unless the experiment names a new discriminator."""
    make_head = _head(experiment, classes)
    if experiment.discriminator is not None:
        return component("discriminator", experiment.discriminator, classes, make_head)
    assert source is not None
    if source.discriminator is None:
        raise UserError(
            f"source {experiment.source!r} has no discriminator; import a checkpoint that has one, or name a new one "
            f"with --set discriminator.name=stylegan1 --set discriminator.resolution={source.backbone.resolution}"
        )
    choice, state = source.discriminator
    network = component("discriminator", choice, classes, make_head)
    try:
        network.load_source(state)
    except RuntimeError as error:
        problem = f"its discriminator does not fit its config.json: {' '.join(str(error).split())}"
        raise UserError(f"source {experiment.source!r}: {problem}") from None
    return network


def _head(experiment: Experiment, classes: int) -> MakeHead:
    """What makes the head of D that the experiment names."""
    choice = experiment.disc_head
    if classes < 2 and choice.name != LOGIT_PER_CLASS:
        instead = f"take --set disc_head={LOGIT_PER_CLASS}"
        raise UserError(f"disc_head {choice.name!r} needs 2 classes or more, got {classes}; {instead}")
    return partial(component, "disc-head", choice)
