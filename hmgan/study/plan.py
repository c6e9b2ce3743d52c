"""From a study to its cells: one resolved experiment per row, target and seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hmgan import components
from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.config.loading import anchored, load_experiment, read_extended
from hmgan.errors import UserError, unknown
from hmgan.study.schema import Row, Study, Target

T = TypeVar("T", Row, Target)


class Cell(NamedTuple):
    """One training of the matrix."""

    target: str
    row: str
    seed: int
    experiment: Experiment  # as it trains, except for the aligned heads it may start from
    align_kimg: float  # self-alignment before it; 0 is none
    metrics: tuple[str, ...]  # that its end is scored by
    scored: str  # "snapshots", or "end": not before it

    @property
    def label(self) -> str:
        return f"{self.target}/{self.row}/seed{self.seed}"

    def folder(self, outdir: Path) -> Path:
        return outdir / "cells" / self.label


def load_study(name: str) -> Study:
    """The study of that name. Raises UserError for an unknown name or a mistake in its file."""
    return Study.model_validate(entries.entry("study", name))


def cells(
    study: Study,
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells in the order they run: the first seed of everything comes first, so that a report is soon whole.

    A row's targets follow each other: of a study that is cut short, every target lacks the same rows, the last ones.

    Args:
        overrides: a.b=c over every row's experiment, after the study's own.
        rows, targets, seeds: only these; left out: all of the study.

    Raises: UserError for a name that the study does not have, or settings that do not fit.
    """
    wanted = product(_seeds(study, seeds), _rows(study, rows), _chosen("target", targets, study.targets))
    made = [_cell(study, row, target, seed, overrides) for seed, row, target in wanted if seed in study.seeds_of(row)]
    if not made:
        named = ", ".join(map(str, seeds or ()))
        raise UserError(f"no chosen row has a seed of {named}; `hmgan show` the study for each row's seeds")
    _check_metrics(study, made)
    _check_alike(made)
    _check_figures(study, made)
    return made


def _chosen(what: str, wanted: Sequence[str] | None, known: Sequence[T]) -> list[T]:
    """The wanted ones in the study's order; all where none are named. Raises UserError with the nearest spelling."""
    names = [one.name for one in known]
    for name in wanted or ():
        if name not in names:
            raise unknown(what, name, names)
    return [one for one in known if not wanted or one.name in wanted]


def _rows(study: Study, wanted: Sequence[str] | None) -> list[Row]:
    """The chosen rows. Raises UserError for one that is the paper's numbers alone."""
    runnable = [row for row in study.rows if row.experiment]
    for row in study.rows:
        if row.name in (wanted or ()) and not row.experiment:
            known = ", ".join(row.name for row in runnable)
            raise UserError(f"row {row.name!r} has no experiment, only the paper's numbers; run: {known}")
    return _chosen("row", wanted, runnable)


def _seeds(study: Study, wanted: Sequence[int] | None) -> list[int]:
    for seed in wanted or ():
        if seed not in study.seeds:
            known = ", ".join(map(str, study.seeds))
            raise UserError(f"--seeds names {seed}, the study has {known}; add it to the study's seeds")
    return [seed for seed in study.seeds if not wanted or seed in wanted]


def _check_metrics(study: Study, made: Sequence[Cell]) -> None:
    from hmgan.evaluation.counts import check_fakes
    from hmgan.evaluation.judge import METRICS  # here, because it takes seconds and the rest of a plan does not

    for name in study.metrics:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    check_fakes(study.metrics, min(cell.experiment.evaluation.per_class for cell in made), "evaluation.per_class")


def _check_alike(made: Sequence[Cell]) -> None:
    """Raises UserError if some rows train without classes: a score of all images is no mean over classes."""
    kinds = {cell.experiment.conditional: cell.row for cell in made}
    if len(kinds) > 1:
        raise UserError(
            f"row {kinds[False]!r} trains without classes and row {kinds[True]!r} with them, so their scores cannot "
            "share a table; give them studies of their own"
        )


def _check_figures(study: Study, made: Sequence[Cell]) -> None:
    """Raises UserError for a row that cannot be drawn in a figure that names it."""
    for row, modulation in {cell.row: cell.experiment.modulation for cell in made}.items():
        for figure in (name for name, rows in study.figures.rows.items() if row in rows):
            if modulation is None:
                raise UserError(f"figures.{figure} is drawn from a modulation, and row {row!r} has none; name another")
            scheme: Any = components.get("modulation", modulation.name)
            if figure == "parts" and not scheme.edits_weights:
                raise UserError(
                    f"figures.parts takes weight edits apart, and row {row!r} has modulation {modulation.name!r}, "
                    "which edits none; name a row with adafm"
                )


def _cell(study: Study, row: Row, target: Target, seed: int, overrides: Sequence[str]) -> Cell:
    fixed = [f"train.kimg={study.kimg}", f"evaluation.per_class={study.per_class}"]
    own: dict[str, Any] = {"data": {"sources": [target.data]}, "train": {"seed": seed}}
    if target.evaluation is not None:
        own["evaluation"] = {"data": target.evaluation}
    for override in overrides:
        path = override.partition("=")[0].strip()
        if path in ("data", "data.sources", "source", "aligned", "train.seed", "evaluation.data"):
            raise UserError(f"--set {path} would be one for all cells; targets and seeds of the study say it")
    assert row.experiment is not None
    try:
        if "backbone" not in read_extended(row.experiment):  # which starts from nothing
            own["source"] = row.source or target.source
        experiment = anchored(load_experiment(row.experiment, [*study.set, *row.set, *fixed, *overrides], own))
    except UserError as error:
        raise UserError(f"row {row.name!r}: {error}") from None
    if experiment.backbone is not None and row.align_kimg:
        problem = "trains from scratch, and there is no source to align to; leave out align_kimg"
        raise UserError(f"row {row.name!r} {problem}")
    return Cell(target.name, row.name, seed, experiment, row.align_kimg, tuple(study.metrics), study.scored)
