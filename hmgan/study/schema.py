"""What a study's TOML may say: rows (methods), targets, seeds, and the orderings to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hmgan.config.entry_schemas import schema
from hmgan.config.settings import Strict
from hmgan.errors import unknown

# Names become folders.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
# Set by the study, once for all rows: a row that set one of these would not be comparable.
SHARED = ("data", "source", "aligned", "train.kimg", "train.seed", "evaluation")


class Row(Strict):
    """A method. Without an experiment it is a row of the paper that is shown and not run."""

    name: Name
    experiment: str | None = None
    source: str | None = Field(None, description="its own source, where its backbone is not that of the targets'")
    set: list[str] = Field(default=[], description="a.b=c overrides of the experiment")
    seeds: list[int] = Field(default=[], description="those of the study's that it has; left out: all of them")
    align_kimg: float = Field(0.0, ge=0, description="kimg of self-alignment before the training; 0 is none")
    paper: str = Field("", description="the paper's name for the row")
    numbers: dict[str, dict[str, float]] = Field(default={}, description="the paper's: target -> metric -> value")

    @field_validator("set")
    @classmethod
    def _own_settings(cls, settings: list[str]) -> list[str]:
        for setting in settings:
            path = setting.partition("=")[0].strip()
            if any(path == shared or path.startswith(f"{shared}.") for shared in SHARED):
                raise ValueError(f"a row cannot set {path}: it is the study's, the same for every row; set it there")
        return settings


class Target(Strict):
    """Classes to transfer to, and the source to start from."""

    name: Name
    data: str
    source: str
    evaluation: str | None = Field(None, description="images to score against; left out: the data's held-out ones")
    paper: str = Field("", description="the paper's source and target that the rows' numbers are of")


class Claim(Strict):
    """An ordering that the paper reports: the row `better` scores better than the row `worse`."""

    name: str
    better: str
    worse: str
    paper: str = Field("", description="the paper's figures")


class Figures(Strict):
    """Which rows the report's figures of single rows show, at their first seed. What is left out is not drawn."""

    parts: str | None = Field(None, description="gamma, beta and b each on its own (Fig. 2); the row edits weights")
    between: list[str] = Field([], description="walks between the classes, one row under the other (Fig. 3; Table 3)")
    styles: str | None = Field(None, description="classes by styles (Fig. 10)")

    @property
    def rows(self) -> dict[str, list[str]]:
        """The rows of each figure."""
        one = {"parts": self.parts, "styles": self.styles}
        return {"between": self.between, **{figure: [row] for figure, row in one.items() if row}}


@schema("study")
class Study(Strict):
    """A matrix of rows, targets and seeds. Every cell trains for the same kimg and is scored in the same way."""

    title: str
    summary: str
    provenance: str = ""
    kimg: float = Field(gt=0, description="kimg of training in every cell")
    per_class: int = Field(ge=2, description="fakes per class that are scored")
    metrics: list[str] = Field(["fd", "kd"], min_length=1, description="scored at the end; at snapshots, fd and kd")
    scored: Literal["snapshots", "end"] = Field("snapshots", description="end: nothing before it, which saves time")
    seeds: list[int] = Field(min_length=1)
    set: list[str] = Field(default=[], description="a.b=c overrides of every row's experiment")
    targets: list[Target] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    claims: list[Claim] = Field([])
    figures: Figures = Figures()

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        rows, targets = [row.name for row in self.rows], [target.name for target in self.targets]
        _once("row", rows)
        _once("target", targets)
        _once("seed", self.seeds)
        for row in self.rows:
            _once("seed", row.seeds)
            if odd := sorted(set(row.seeds).difference(self.seeds)):
                raise ValueError(
                    f"row {row.name!r} has seed {odd[0]}, and the study has not; add it to the study's seeds"
                )
            for target in row.numbers:
                _known("target", target, targets, f"numbers of row {row.name!r}")
        for claim in self.claims:
            for side in (claim.better, claim.worse):
                _known("row", side, rows, f"claim {claim.name!r}")
        run = [row.name for row in self.rows if row.experiment]
        for figure, names in self.figures.rows.items():
            for name in names:
                _known("row with an experiment", name, run, f"figures.{figure}")
        if not run:
            raise ValueError("no row has an experiment, so there is nothing to run; give one to a row")
        return self

    def seeds_of(self, row: Row) -> list[int]:
        """The seeds that a row is trained with."""
        return row.seeds or self.seeds


def _once(what: str, names: Sequence[object]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what}s are {name!r}; each must be there once")


def _known(what: str, name: str, known: list[str], where: str) -> None:
    if name not in known:
        raise ValueError(f"{where}: {unknown(what, name, known)}")
