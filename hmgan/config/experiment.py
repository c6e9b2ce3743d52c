"""An experiment as a strict model, and which of its components go together."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hmgan import components
from hmgan.config import entries
from hmgan.config.settings import R1, Choice, Compute, Data, Ema, Evaluation, Loader, Optimizer, Strict, Train, named
from hmgan.errors import UserError

# The fields of an experiment that name a component, and its kind.
CHOICES = {"compute.engine" if kind == "engine" else kind.replace("-", "_"): kind for kind in entries.COMPONENTS}


class Experiment(Strict):
    """Everything that defines a training run, but for what is given on the command line."""

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
        None,
        description="what G minimises beside the game, for variety or its source: `hmgan list gen-penalties`",
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
        if self.data is not None and self.data.reader != "index" and self.loader.stratified:
            raise ValueError('loader.stratified needs an index, and data.reader "webdataset" has none; leave one out')
        if self.data is not None and self.data.weights and self.loader.stratified:
            raise ValueError("loader.stratified shows all of data as one set, got data.weights; leave one out")
        return self


def chosen(experiment: Experiment, path: str) -> Choice | None:
    """The component that an experiment names in a field of CHOICES."""
    choice: Choice | None = attrgetter(path)(experiment)
    return choice


def check_beside(experiment: Experiment) -> None:
    """Raises UserError for a component without a setting that it needs, or with one that it excludes.

    Components declare both: `needs` and `excludes` map a setting, as path or path=value, to the reason.
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
