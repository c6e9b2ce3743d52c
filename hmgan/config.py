"""Configuration: TOML entries become strict models. A mistake is one line, and nothing is written."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hmgan import components, registry_index
from hmgan.errors import UserError

# The fields of an experiment that name a component, and the kind each must be of.
CHOICES = {
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
}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(BaseModel):
    """A component by name, and its options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class R1(Strict):
    """The gradient penalty on real images. gamma "auto" is 0.0002 * resolution^2 / batch."""

    gamma: float | Literal["auto"] = Field("auto", union_mode="left_to_right")
    every: int = Field(16, ge=0, description="counts D steps; 0 turns the penalty off")

    @field_validator("gamma")
    @classmethod
    def _positive(cls, gamma: float | str) -> float | str:
        if not isinstance(gamma, str) and gamma < 0:
            raise ValueError(f'gamma must be 0 or more, or "auto", got {gamma}')
        return gamma


class Optimizer(Strict):
    """Adam for both networks."""

    lr: float = Field(0.002, gt=0)
    beta1: float = Field(0.0, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    class_net_mult: float = Field(0.01, ge=0, description="learning rate of the class net, times lr")
    mapping_mult: float = Field(0.01, ge=0, description="learning rate of a trained mapping network, times lr")


class Ema(Strict):
    """Moving average of the trained parts of G. kimg "auto" is a half-life of batch * 10 / 32 kimg."""

    kimg: float | Literal["auto"] = Field("auto", union_mode="left_to_right")
    power: float = Field(0.75, gt=0, description="warm-up: the average is at most 1 - (1 + step)^-power")

    @field_validator("kimg")
    @classmethod
    def _positive(cls, kimg: float | str) -> float | str:
        if not isinstance(kimg, str) and kimg <= 0:
            raise ValueError(f'kimg must be more than 0, or "auto", got {kimg}')
        return kimg


class Train(Strict):
    """How long, how much at once, and what is kept."""

    kimg: float = Field(1000.0, gt=0, description="thousands of real images shown")
    labels: bool = Field(False, description="pretrain a backbone that has classes of its own with labels")
    batch: int = Field(32, ge=1, description="images per step over all ranks")
    seed: int = Field(0, ge=0)
    mixing: float = Field(0.9, ge=0, le=1, description="probability of style mixing")
    mirror: bool = Field(False, description="flip half of the real images")
    workers: int = Field(0, ge=0, description="loader processes per rank")
    tick: float = Field(1.0, gt=0, description="kimg between status lines")
    snap: float = Field(50.0, gt=0, description="kimg between snapshots, grids and checkpoints")
    checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    contrastive_weight: float = Field(1e-3, ge=0, description="lambda_contr, Eq. 9")
    class_weight: float = Field(1.0, ge=0, description="weight of an auxiliary classifier's loss, for D and for G")
    gen_penalty_weight: float = Field(1.0, ge=0, description="weight of the penalty on a fine-tuned G")
    freeze: list[str] = Field(default=[], description="parts of D that do not train")
    source: list[str] = Field(default=[], description="parameters of the source that train too, as patterns")
    trackers: list[str] = Field(default=["tensorboard"], description="accelerate trackers")
    threads: int = Field(0, ge=0, description="CPU threads per rank; 0 leaves torch's choice")


class Mining(Strict):
    """MineGAN: a network in front of G's mapping learns which z to ask for, alone at first, then with all of G."""

    kimg: float = Field(gt=0, description="thousands of real images in which only the miner and D train")


class Anchors(Strict):
    """CDC's two measures of realism: whole images near few fixed z at times, and patches from any z otherwise."""

    count: int = Field(10, ge=1, description="fixed z, the anchors")
    spread: float = Field(0.1, ge=0, description="standard deviation of z around its anchor")
    every: int = Field(4, ge=1, description="counts steps; one in so many is of whole images near anchors")
    patch_blocks: int = Field(3, ge=1, description="blocks of D in front of the patch head; 3 at 256 px")


class Evaluation(Strict):
    """Scores at every snapshot. per_class 0 computes none."""

    data: str | None = Field(None, description="images to score against; left out: those held out, or the training set")
    extractor: str = "squeezenet"
    per_class: int = Field(0, ge=0, description="fakes per class")
    seed: int = Field(1_000_000, ge=0, description="the fakes' own seed, so that scores are comparable over time")

    @field_validator("per_class")
    @classmethod
    def _enough(cls, per_class: int) -> int:
        if per_class == 1:
            raise ValueError("per_class must be 0, which computes no scores, or at least 2, got 1")
        return per_class


class Experiment(Strict):
    """One training run, whole. Two runs of one experiment differ in nothing but what is said on the command line."""

    summary: str
    provenance: str = ""
    task: Literal["pretrain", "align", "transfer"] = "transfer"
    data: str | None = None
    source: str | None = None
    aligned: str | None = None
    backbone: Choice | None = None
    discriminator: Choice | None = None
    disc_head: Choice = Choice(name="logit-per-class")
    class_net: Choice | None = None
    modulation: Choice | None = None
    adversarial: Choice = Choice(name="logistic")
    contrastive: Choice | None = None
    regularizer: Choice | None = None
    augment: Choice | None = None
    gen_penalty: Choice | None = None
    mining: Mining | None = None
    anchors: Anchors | None = None
    r1: R1 = R1()
    optimizer: Optimizer = Optimizer()
    ema: Ema = Ema()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()

    @field_validator(*CHOICES, mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def conditional(self) -> bool:
        """Whether G has classes. A transfer without a modulation fine-tunes the source, labels unused."""
        return self.modulation is not None or (self.task == "pretrain" and self.train.labels)

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        modulated = ("source", "class_net", "modulation")
        wanted = {"pretrain": ("backbone", "discriminator"), "align": modulated, "transfer": ("source",)}[self.task]
        for field in wanted:
            if getattr(self, field) is None:
                raise ValueError(f"{field} is missing: {self.task} needs one; name it in the experiment or with --set")
        if self.task == "pretrain" and self.source is not None:
            raise ValueError(f"source is for a transfer, got {self.source!r} for pretrain; leave it out")
        if (self.class_net is None) != (self.modulation is None):
            missing, given = ("class_net", "modulation") if self.class_net is None else ("modulation", "class_net")
            raise ValueError(f"{missing} is missing: {given} needs one; leave both out to fine-tune the whole source")
        for field in ("gen_penalty", "mining", "anchors"):
            if getattr(self, field) is not None and (self.task != "transfer" or self.conditional):
                raise ValueError(
                    f"{field} is for fine-tuning, which is a transfer without class_net and modulation; "
                    "leave those out, or it"
                )
        if self.gen_penalty is not None and self.discriminator is not None:
            raise ValueError("gen_penalty looks at the source through its own discriminator; leave discriminator out")
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
    return resolve(table)


def resolve(table: dict[str, Any]) -> Experiment:
    """A validated experiment from its table."""
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        raise UserError(components.explain(error, Experiment)) from None
    checked = {field: _resolve_choice(field, getattr(experiment, field)) for field in CHOICES}
    return experiment.model_copy(update=checked)


def _resolve_choice(field: str, choice: Choice | None) -> Choice | None:
    if choice is None:
        return None
    component, options = registry_index.component(CHOICES[field], choice.name, choice.options)
    return Choice(name=component, **components.check(CHOICES[field], component, options, where=field))


def read_extended(name: str) -> dict[str, Any]:
    """An experiment's table, on top of the one it extends; one level only."""
    table = registry_index.entry("experiment", name)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    base = registry_index.entry("experiment", parent)
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
        below = {"name": below} if isinstance(below, str) and key in CHOICES and isinstance(value, Mapping) else below
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
        is_path = name is not None and name not in registry_index.entries(kind) and Path(name).exists()
        return os.path.abspath(name) if is_path and name is not None else name

    evaluation = experiment.evaluation.model_copy(update={"data": anchor("dataset", experiment.evaluation.data)})
    places = {
        "data": anchor("dataset", experiment.data),
        "source": anchor("source", experiment.source),
        "aligned": None if experiment.aligned is None else os.path.abspath(experiment.aligned),
    }
    return experiment.model_copy(update={**places, "evaluation": evaluation})


def to_table(experiment: Experiment) -> dict[str, Any]:
    """A plain table that `resolve` reads back to the same experiment."""
    return experiment.model_dump(exclude_none=True)


def read_json(path: Path) -> Experiment:
    """The experiment that a run directory keeps. Raises UserError where there is none."""
    import json

    try:
        return resolve(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a readable run configuration ({error}); give a run directory") from None
