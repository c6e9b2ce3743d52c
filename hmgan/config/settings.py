"""The tables of an experiment: [r1], [optimizer], [ema], [train] and the others, each a strict model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from hmgan.components import bounded
from hmgan.urls import checked

NAMED = 3  # sources in a run directory's name


class Strict(BaseModel):
    """A model that refuses unknown keys, other types, numbers that are none or too large, and URLs with secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, value: Any) -> Any:
        """Before they are kept or shown anywhere."""
        bounded(value)
        return checked(value)


class Choice(BaseModel):
    """A component by name, and its options beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, hide_input_in_errors=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def named(value: Any, default: Choice | None) -> Any:
    """A bare name is a choice without options; options without a name are those of the default."""
    if isinstance(value, str):
        return {"name": value}
    return {"name": default.name, **value} if isinstance(value, dict) and default is not None else value


class Data(Strict):
    """Which images, and in which shares. A bare name, path or URL is a data set as it is; a list of them is one set.

    Written back as short as it can be read.
    """

    sources: list[str] = Field(min_length=1, description="packed images: paths, URLs, names of `hmgan list datasets`")
    weights: list[Annotated[float, Field(gt=0)]] = Field(
        default=[], description="of each source, relative to each other; []: as one set"
    )
    balance: bool = Field(False, description="show classes equally often: those of each weighted source, or of all")
    classes: list[str] = Field(default=[], description="use these only, in this order; []: all, and the same in all")
    per_class: int = Field(0, ge=0, description="use the first so many of each class of each source; 0: all")
    reader: Literal["index", "webdataset"] = Field(
        "index", description="webdataset is for shards without an index: no exact resume, and other limits"
    )
    buffer: int = Field(1000, ge=1, description="images that reader webdataset mixes with each other")
    background: str = Field("white", description="colour behind transparent pixels; an index has its own")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        table = {"sources": value} if isinstance(value, str | list) else value
        bare = isinstance(table, dict) and isinstance(table.get("sources"), str)
        return {**table, "sources": [table["sources"]]} if bare else table

    @model_validator(mode="after")
    def _fits(self) -> Data:
        if self.weights and len(self.weights) != len(self.sources):
            raise ValueError(
                f"weights must be one for each source, got {len(self.weights)} for {len(self.sources)}; "
                "give as many, or none"
            )
        for field in ("buffer", "background"):
            if self.reader == "index" and field in self.model_fields_set:
                raise ValueError(f'{field} is of reader "webdataset"; leave it out')
        for field in ("weights", "balance", "per_class"):
            if self.reader != "index" and getattr(self, field):
                raise ValueError(
                    f'{field} needs an index, and reader "webdataset" has none; leave it out, or run `hmgan index` on '
                    "the shards and leave reader out"
                )
        return self

    @model_serializer(mode="wrap")
    def _shortest(self, handler: SerializerFunctionWrapHandler) -> Any:
        table = handler(self)
        told = {key: value for key, value in table.items() if value != type(self).model_fields[key].default}
        if told.keys() != {"sources"}:
            return told
        return self.sources[0] if len(self.sources) == 1 else self.sources

    def __str__(self) -> str:
        return " + ".join(self.sources)

    @property
    def label(self) -> str:
        """For the name of a run directory."""
        names = [Path(source).name for source in self.sources]
        return "+".join(names if len(names) <= NAMED else [*names[: NAMED - 1], f"{len(names) - NAMED + 1}-more"])

    @property
    def whole(self) -> bool:
        """Whether it is one data set as it is."""
        return self == Data(sources=self.sources) and len(self.sources) == 1


class R1(Strict):
    """The gradient penalty on real images."""

    gamma: float | Literal["auto"] = Field(
        "auto", union_mode="left_to_right", description='its weight; "auto" is 0.0002 * resolution^2 / batch'
    )
    every: int = Field(16, ge=0, description="counts D steps; 0 turns the penalty off")

    @field_validator("gamma")
    @classmethod
    def _positive(cls, gamma: float | str) -> float | str:
        if not isinstance(gamma, str) and gamma < 0:
            raise ValueError(f'gamma must be 0 or more, or "auto", got {gamma}')
        return gamma


class Optimizer(Strict):
    """Adam for both networks."""

    lr: float = Field(0.002, gt=0, description="learning rate of all that has none of its own")
    beta1: float = Field(0.0, ge=0, lt=1, description="decay per step of the gradients' mean")
    beta2: float = Field(0.99, ge=0, lt=1, description="decay per step of the squared gradients' mean")
    class_net_mult: float = Field(0.01, ge=0, description="learning rate of the class net, times lr")
    mapping_mult: float = Field(0.01, ge=0, description="learning rate of a trained mapping network, times lr")
    disc_mult: float = Field(1.0, gt=0, description="learning rate of D, times lr")


class Ema(Strict):
    """Moving average of the trained parts of G."""

    kimg: float | Literal["auto"] = Field(
        "auto",
        union_mode="left_to_right",
        description='half-life in thousands of real images; "auto" is batch * 10 / 32 kimg',
    )
    power: float = Field(0.75, gt=0, description="warm-up: the average is at most 1 - (1 + step)^-power")
    warmup: float = Field(0.0, ge=0, description="the half-life is at most this share of the images so far; 0: any")

    @field_validator("kimg")
    @classmethod
    def _positive(cls, kimg: float | str) -> float | str:
        if not isinstance(kimg, str) and kimg <= 0:
            raise ValueError(f'kimg must be more than 0, or "auto", got {kimg}')
        return kimg


class Train(Strict):
    """How long, how much at once, and what is kept."""

    kimg: float = Field(1000.0, gt=0, description="thousands of real images shown")
    labels: bool | None = Field(None, description="whether classes are used; left out: where there is a modulation")
    batch: int = Field(32, ge=1, description="images per step over all ranks and microbatches")
    accumulate: int = Field(
        1, ge=1, description="microbatches per rank: gradients accumulate over them, and the step is the same"
    )
    seed: int = Field(0, ge=0, description="of everything random")
    tick: float = Field(1.0, gt=0, description="kimg between status lines")
    snap: float = Field(50.0, gt=0, description="kimg between snapshots, grids and checkpoints")
    checkpoints: int = Field(2, ge=1, description="checkpoints kept")
    source: list[str] = Field(default=[], description="parameters of the source that train too, as patterns")
    unedited: bool = Field(
        False,
        description="input constant, noise strengths and to-RGB of a modulated source, which no class edits, train too",
    )
    trackers: list[str] = Field(default=["tensorboard"], description="accelerate trackers")
    timeout: float = Field(
        1800.0, gt=0, le=1e8, description="seconds that a rank may take to move on, before all give up"
    )
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="what a loss or gradient that is not finite does: end the run, or leave that phase out"
    )
    nonfinite_row: int = Field(5, ge=1, description="steps in a row with a phase left out, at most")


class Loader(Strict):
    """How training images are read and shown."""

    mirror: bool = Field(False, description="flip half of the real images")
    stratified: bool = Field(
        False, description="every batch has each class's share of images, of data.balance equal ones, up to one image"
    )
    group: int = Field(1, ge=1, description="consecutive images of one class in a stratified batch")
    workers: int = Field(0, ge=0, le=256, description="loader processes per rank")
    on_corrupt: Literal["stop", "skip"] = Field("stop", description="what a damaged training image does to the run")
    corrupt_share: float = Field(0.001, ge=0, lt=1, description="of the set that skip leaves out before it stops too")

    @model_validator(mode="after")
    def _fits(self) -> Loader:
        if self.group > 1 and not self.stratified:
            raise ValueError(
                f"group is of stratified batches, got {self.group}; add stratified = true, or leave it out"
            )
        return self

    @property
    def strata(self) -> int:
        """Images of one class in a row; 0 where batches are not stratified."""
        return self.group if self.stratified else 0

    @property
    def tolerated(self) -> float:
        """Share of the images that may be damaged."""
        return self.corrupt_share if self.on_corrupt == "skip" else 0.0


class Compute(Strict):
    """What the device does: nothing here changes what is computed, but for rounding."""

    engine: Choice = Field(
        Choice(name="replicated"), description="how ranks share parameters and Adam's state: `hmgan list engines`"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="of the passes; weights, moving averages, Adam, R1, statistics and losses are float32 always",
    )
    tf32: bool = Field(True, description="float32 products on GPUs round their factors to 11 significant bits")
    kernels: Literal["auto", "torch"] = Field(
        "torch",
        description="auto: on a GPU with Triton, a few kernels for all that lies between two convolutions of "
        "stylegan1's G and D, and for edits; "
        "first run scripts/bench_gpu.py --section checks there",
    )
    merge: bool = Field(
        False, description="D sees reals, fakes and all views of a step without R1 in one pass; takes more memory"
    )
    graphs: bool = Field(
        False,
        description="CUDA graphs of D's pass in steps without R1 and in G's phase, and of G's where loader.stratified; "
        "they hold memory",
    )
    ahead: bool = Field(
        False, description="draw a step's random numbers, the same ones, in a thread while the one before is taken"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads per rank; 0 leaves torch's choice")
    checkpoint: Literal["whole", "sharded"] = Field(
        "whole",
        description="sharded: each of several ranks writes its share, and none holds all; the run must lie where all "
        "ranks write",
    )

    @model_validator(mode="after")
    def _fits(self) -> Compute:
        if self.graphs and not self.merge:
            raise ValueError("graphs needs D's phase in one pass, got merge = false; add merge = true")
        return self

    @field_validator("engine", mode="before")
    @classmethod
    def _named(cls, engine: Any) -> Any:
        return named(engine, cls.model_fields["engine"].default)


class Evaluation(Strict):
    """Scores at every snapshot."""

    data: str | None = Field(None, description="images to score against; left out: those held out, or the training set")
    extractor: str = Field(
        "squeezenet",
        description="network whose features are compared, or several joined by commas: `hmgan list extractors`",
    )
    per_class: int = Field(0, ge=0, le=1_000_000, description="fakes per class; 0 computes no scores")
    seed: int = Field(1_000_000, ge=0, description="the fakes' own seed, so that scores are comparable over time")
    collapse: float = Field(0.5, ge=0, description="share of the reals' diversity below which a class is warned of")

    @field_validator("per_class")
    @classmethod
    def _enough(cls, per_class: int) -> int:
        if per_class == 1:
            raise ValueError("per_class must be 0, which computes no scores, or at least 2, got 1")
        return per_class
