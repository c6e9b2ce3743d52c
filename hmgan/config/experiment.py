"""Configuration: TOML entries become strict models. A mistake is one line, and nothing is written."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from hmgan import components
from hmgan.config import entries, moved
from hmgan.config.settings import R1, Choice, Compute, Data, Ema, Evaluation, Loader, Optimizer, Strict, Train, named
from hmgan.errors import UserError, explain

# The fields of an experiment that name a component, and the kind each must be of.
CHOICES = {
    "task": "task",
    "backbone": "backbone",
    "discriminator": "discriminator",
    "disc_head": "disc-head",
    "class_net": "class-net",
    "modulation": "modulation",
    "adversarial": "adversarial",
    "contrastive": "contrastive",
    "regularizer": "regularizer",
    "augment": "augment",
    "gen_penalty": "gen-penalty",
    "players": "players",
    "feature_net": "feature-net",
    "compute.engine": "engine",
}
# What is meant where a table's place holds a bare value.
BARE = {**dict.fromkeys((path.rpartition(".")[2] for path in CHOICES), "name"), "data": "sources"}


class Experiment(Strict):
    """One training run, whole. Two runs of one experiment differ in nothing but what is said on the command line."""

    summary: str = Field(description="what it is, in one line")
    provenance: str = Field("", description="where its settings are from")
    task: Choice = Field(Choice(name="gan"), description="what is minimised: `hmgan list tasks`")
    data: Data | None = Field(None, description="training images: paths, URLs or names of `hmgan list datasets`")
    source: str | None = Field(None, description="pretrained GAN: a folder, or a name of `hmgan list sources`")
    aligned: str | None = Field(None, description="run directory of `hmgan align` whose heads are the start")
    backbone: Choice | None = Field(
        None, description="G's architecture where no source gives it: `hmgan list backbones`"
    )
    discriminator: Choice | None = Field(
        None, description="D's architecture; none: the source's D: `hmgan list discriminators`"
    )
    disc_head: Choice = Field(
        Choice(name="logit-per-class"), description="from D's features to logits: `hmgan list disc-heads`"
    )
    class_net: Choice | None = Field(None, description="from a label to the class vector v: `hmgan list class-nets`")
    modulation: Choice | None = Field(None, description="from v to edits of G's layers: `hmgan list modulations`")
    adversarial: Choice = Field(
        Choice(name="logistic"), description="the loss of D and G against each other: `hmgan list adversarials`"
    )
    contrastive: Choice | None = Field(
        None, description="auxiliary loss of D on two views of an image: `hmgan list contrastives`"
    )
    regularizer: Choice | None = Field(None, description="what restrains D's logits: `hmgan list regularizers`")
    augment: Choice | None = Field(None, description="what D sees all images through: `hmgan list augments`")
    gen_penalty: Choice | None = Field(
        None, description="what holds a fine-tuned G near its source: `hmgan list gen-penalties`"
    )
    feature_net: Choice | None = Field(
        None, description="in whose features reconstructions are compared: `hmgan list feature-nets`"
    )
    players: Choice | None = Field(None, description="who plays a step of the GAN game: `hmgan list players`")
    r1: R1 = R1()
    optimizer: Optimizer = Optimizer()
    ema: Ema = Ema()
    train: Train = Train()
    loader: Loader = Loader()
    compute: Compute = Compute()
    evaluation: Evaluation = Evaluation()

    @field_validator(*(path for path in CHOICES if "." not in path), mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        return named(value, cls.model_fields[str(info.field_name)].default)

    @property
    def conditional(self) -> bool:
        """Whether G has classes. A transfer without a modulation fine-tunes the source, labels unused."""
        return self.modulation is not None if self.train.labels is None else self.train.labels

    @property
    def data_label(self) -> str:
        """The data, for the name of a run directory."""
        return "none" if self.data is None else self.data.label

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        start = "source" if self.backbone is None else "discriminator"
        if getattr(self, start) is None:
            raise ValueError(
                f"{start} is missing: a transfer starts from a source, a pretraining from a backbone and a "
                "discriminator; name it in the experiment or with --set"
            )
        if self.backbone is not None and self.source is not None:
            raise ValueError(
                f"the experiment is for hmgan pretrain, which starts from no source, got {self.source!r}; leave it out"
            )
        if (self.class_net is None) != (self.modulation is None):
            missing, given = ("class_net", "modulation") if self.class_net is None else ("modulation", "class_net")
            raise ValueError(f"{missing} is missing: {given} needs one; leave both out to fine-tune the whole source")
        if self.data is not None and self.data.reader != "index" and self.loader.on_corrupt == "skip":
            raise ValueError(
                'loader.on_corrupt = "skip" needs an index, and data.reader "webdataset" has none; leave one out'
            )
        return self


def load(name: str, overrides: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of that name with `a.b=c` overrides, every component checked and its defaults filled in.

    Args:
        extra: nested values from the command line's own options, applied after the overrides.
    Raises: UserError for a wrong name, key, type or value.
    """
    table = read_extended(name)
    for override in overrides:
        merge(table, parse_override(override))
    merge(table, dict(extra or {}))
    moved.refuse(table)
    return resolve(table)


def resolve(table: dict[str, Any]) -> Experiment:
    """A validated experiment from its table."""
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        raise UserError(explain(error, Experiment)) from None
    checked = {path: _resolve_choice(path, chosen(experiment, path)) for path in CHOICES}
    compute = experiment.compute.model_copy(update={"engine": checked.pop("compute.engine")})
    experiment = experiment.model_copy(update={**checked, "compute": compute})
    check_beside(experiment)
    return experiment


def _resolve_choice(field: str, choice: Choice | None) -> Choice | None:
    if choice is None:
        return None
    return choose(CHOICES[field], choice.name, choice.options, where=field)


def choose(kind: str, name: str, options: Mapping[str, Any], where: str = "") -> Choice:
    """The component behind a name, with every option that it has. Raises UserError for a wrong one."""
    component, given = entries.component(kind, name, options)
    return Choice(name=component, **components.check(kind, component, given, where=where))


def chosen(experiment: Experiment, path: str) -> Choice | None:
    """The component that an experiment names in a field of CHOICES."""
    choice: Choice | None = attrgetter(path)(experiment)
    return choice


def check_beside(experiment: Experiment) -> None:
    """Raises UserError for a component without what it needs beside it, or with what it cannot stand beside.

    What that is, components say themselves: `needs` and `excludes`, setting -> why. A setting is a path, or path=value.
    """
    for field, kind in CHOICES.items():
        choice = chosen(experiment, field)
        if choice is None:
            continue
        for path, why in components.declared(kind, choice.name, "excludes").items():
            if _is_set(experiment, path):
                raise UserError(f"{field} {choice.name!r} {why}; leave {path} out, or {field}")
        for path, why in components.declared(kind, choice.name, "needs").items():
            if not _is_set(experiment, path):
                raise UserError(f"{field} {choice.name!r} {why}: {path} is missing; name it, or leave {field} out")


def _is_set(experiment: Experiment, path: str) -> bool:
    keys, equals, wanted = path.partition("=")
    value: Any = experiment
    for key in keys.split("."):
        value = getattr(value, key, None)
    return value == wanted if equals else value not in (None, False, [])


def read_extended(name: str) -> dict[str, Any]:
    """An experiment's table, on top of the one it extends; one level only."""
    table = entries.entry("experiment", name)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    base = entries.entry("experiment", parent)
    if "extends" in base:
        raise UserError(f"experiment {name!r} extends {parent!r}, which extends another; one level is the limit")
    merge(base, table)
    return base


def merge(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    """Lays `top` over `base`, table by table. A new component name starts from that component's own options.

    Options that have no name yet are those of the name that comes to them.
    """
    for key, value in top.items():
        below = base.get(key)
        if isinstance(below, str | list) and isinstance(value, Mapping) and key in BARE:
            below = {BARE[key]: below}
        if not isinstance(value, Mapping):
            base[key] = value
        elif isinstance(below, dict) and value.get("name", below.get("name")) == below.get("name", value.get("name")):
            merge(below, value)
            base[key] = below
        else:
            base[key] = dict(value)


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=c` -> {"a": {"b": c}}; c is TOML where it parses as such and a bare string elsewhere; "none" is None."""
    path, equals, value = text.partition("=")
    if not equals or not all(key.strip() for key in path.split(".")):
        raise UserError(f"--set wants a.b=c, got {text!r}")
    parsed: Any
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = None if value == "none" else value
    for key in reversed(path.strip().split(".")):
        parsed = {key: parsed}
    return parsed


def anchored(experiment: Experiment) -> Experiment:
    """Relative paths made absolute, so that a run can be resumed and scored from any directory."""

    def anchor(kind: str, name: str | None) -> str | None:
        is_path = name is not None and name not in entries.entries(kind) and Path(name).exists()
        return os.path.abspath(name) if is_path and name is not None else name

    evaluation = experiment.evaluation.model_copy(update={"data": anchor("dataset", experiment.evaluation.data)})
    data = experiment.data
    if data is not None:
        data = data.model_copy(update={"sources": [anchor("dataset", source) for source in data.sources]})
    places = {
        "data": data,
        "source": anchor("source", experiment.source),
        "aligned": None if experiment.aligned is None else os.path.abspath(experiment.aligned),
    }
    return experiment.model_copy(update={**places, "evaluation": evaluation})


def data_of(sources: Sequence[str] | None) -> Data | None:
    """Data sets without an experiment. Raises UserError for a URL with a secret in it."""
    if not sources:
        return None
    try:
        return Data(sources=list(sources))
    except ValidationError as error:
        raise UserError(explain(error, Data, "data")) from None


def to_table(experiment: Experiment) -> dict[str, Any]:
    """A plain table that `resolve` reads back to the same experiment."""
    return experiment.model_dump(exclude_none=True)


def read_json(path: Path) -> Experiment:
    """The experiment that a run directory keeps. Raises UserError where there is none."""
    import json

    try:
        table = json.loads(path.read_text())
        return resolve(moved.renamed(table) if isinstance(table, dict) else table)
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a readable run configuration ({error}); give a run directory") from None
