"""From a resolved experiment to networks."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.config.settings import Choice
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.heads import LOGIT_PER_CLASS
from hmgan.errors import UserError
from hmgan.generators.source import Source
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import LabelledGenerator, UnconditionalGenerator

Generator = TransferGenerator | UnconditionalGenerator


class Networks(NamedTuple):
    generator: Generator
    discriminator: Discriminator


def build(experiment: Experiment, source: Source | None, classes: int) -> Networks:
    """Both networks of an experiment, seeded by it.

    Args:
        source: what is transferred; None for pretraining.
        classes: number of classes in the data; 1 where labels are not used.
    Raises: UserError if the source does not fit.
    """
    torch.manual_seed(experiment.train.seed)
    generator: Generator
    if source is None:
        assert experiment.discriminator is not None
        generator = _pretrained_generator(experiment, classes)
        head = _head(experiment, classes)
        return Networks(generator, _component("discriminator", experiment.discriminator, classes, head))
    if experiment.modulation is not None:
        train_parts(source.backbone, experiment.train.source)
        generator = transfer_generator(experiment, source.backbone, classes)
    elif experiment.conditional:
        raise UserError(
            "train.labels needs a class_net and a modulation, or a backbone with classes; name them, or leave "
            "train.labels out"
        )
    else:
        generator = UnconditionalGenerator(fine_tuned(experiment, source))
    return Networks(generator, _discriminator(experiment, source, classes))


def _pretrained_generator(experiment: Experiment, classes: int) -> Generator:
    """A new backbone: under class net and modulation, with classes of its own, or without labels.

    Raises: UserError if its own classes are not the data's.
    """
    assert experiment.backbone is not None
    backbone = _component("backbone", experiment.backbone)
    if experiment.modulation is not None:
        return transfer_generator(experiment, backbone, classes)
    if not experiment.conditional:
        return UnconditionalGenerator(backbone)
    own = max((len(scale_KC) for scale_KC, _ in backbone.old_classes().values()), default=0)
    if own != classes:
        raise UserError(
            f"train.labels gives {classes} classes and backbone {experiment.backbone.name!r} has {own}; "
            f"use a class-conditional backbone with --set backbone.classes={classes}"
        )
    return LabelledGenerator(backbone)


def transfer_generator(experiment: Experiment, backbone: Any, classes: int) -> TransferGenerator:
    """The backbone under the experiment's class net and modulation; what requires gradients trains."""
    assert experiment.class_net is not None
    assert experiment.modulation is not None
    class_net = _component("class-net", experiment.class_net, classes)
    modulation = _component("modulation", experiment.modulation, backbone, class_net.dim)
    convolutions = [site.weight for site in backbone.sites().values()]
    if experiment.modulation.options.get("live") is False and any(w.requires_grad for w in convolutions):
        raise UserError(
            f"convolutions train, which modulation {experiment.modulation.name!r} normalises once; "
            "add --set modulation.live=true"
        )
    tuned = any(p.requires_grad for p in backbone.parameters())
    return TransferGenerator(backbone, class_net, modulation, tuned)


def train_parts(source: nn.Module, patterns: Sequence[str]) -> None:
    """Freezes a source but for the parameters that match a pattern, such as "blocks.*.norm?.*" or "*".

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


def fine_tuned(experiment: Experiment, source: Source) -> Any:
    """The source's backbone, which trains whole; with what the experiment's players ask of it, which is new."""
    if not asked_of_backbone(experiment):
        return source.backbone
    backbone = _component("backbone", fine_tuned_choice(experiment, source))
    backbone.load_state_dict({**backbone.state_dict(), **source.backbone.state_dict()})
    return backbone


def fine_tuned_choice(experiment: Experiment, source: Source) -> Choice:
    return Choice(**{**source.config["backbone"], **asked_of_backbone(experiment)})


def asked_of_backbone(experiment: Experiment) -> Mapping[str, Any]:
    """Options of a source's backbone that the experiment's players ask for."""
    choice = experiment.players
    return {} if choice is None else getattr(components.get("players", choice.name), "backbone", {})


def _discriminator(experiment: Experiment, source: Source, classes: int) -> Discriminator:
    """The source's own discriminator with the experiment's head, unless the experiment names a new discriminator."""
    make_head = _head(experiment, classes)
    if experiment.discriminator is not None:
        return _component("discriminator", experiment.discriminator, classes, make_head)
    if source.discriminator is None:
        raise UserError(
            f"source {experiment.source!r} has no discriminator; import a checkpoint that has one, or name a new one "
            f"with --set discriminator.name=stylegan1 --set discriminator.resolution={source.backbone.resolution}"
        )
    choice, state = source.discriminator
    network = _component("discriminator", choice, classes, make_head)
    try:
        network.load_source(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"source {experiment.source!r}: its discriminator does not fit its config.json: {reason}"
        ) from None
    return network


def _head(experiment: Experiment, classes: int) -> Callable[[int, int], nn.Module]:
    """(embedding width, classes) -> the head of D that the experiment names."""
    choice = experiment.disc_head
    if classes < 2 and choice.name != LOGIT_PER_CLASS:
        raise UserError(f"disc_head {choice.name!r} needs 2 classes or more, got {classes}; leave it out")
    return partial(components.build, "disc-head", choice.name, **choice.options)


def _component(kind: str, choice: Choice, *parts: object) -> Any:
    return components.build(kind, choice.name, *parts, **choice.options)
