"""The paper's tables by their numbers, each from the part of a study that it needs: `python scripts/table1.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from hmgan.errors import UserError
from hmgan.files import write_atomically
from hmgan.metrics import measures
from hmgan.options.shared import parse_seeds
from hmgan.options.study import CompareOptions
from hmgan.report.document import Report, Section, Table, markdown
from hmgan.study import scores, tables
from hmgan.study.plan import Cell, load_study
from hmgan.study.plan import cells as planned
from hmgan.study.report import Findings, lead, protocols
from hmgan.study.run import compare
from hmgan.study.schema import Row, Study
from hmgan.study.scores import Result


class PaperTable(NamedTuple):
    """One of the paper's tables, of any study."""

    title: str
    make: Callable[[Study, Sequence[Result]], list[Table]]
    paths: bool = False  # of the rows between whose classes the study walks, and of their path lengths
    metric: str = "fd"  # that the study must score
    notes: tuple[str, ...] = ()


def _by_target(study: Study, found: Sequence[Result]) -> list[Table]:
    return [tables.across(study, found, metric) for metric in scores.metrics(found)[:1]]


def _distances_by_target(study: Study, found: Sequence[Result]) -> list[Table]:
    metrics = scores.metrics(found)
    return [tables.across(study, found, metric) for metric in metrics if measures.better(metric) == "lower"]


def _distances(study: Study, found: Sequence[Result]) -> list[Table]:
    return [tables.scores(study, found, target.name)[0] for target in study.targets]


def _paths(study: Study, found: Sequence[Result]) -> list[Table]:
    return [tables.path_lengths(study, found, target.name) for target in study.targets]


def _everything(study: Study, found: Sequence[Result]) -> list[Table]:
    return [table for target in study.targets for table in tables.scores(study, found, target.name)]


TABLES = {
    1: PaperTable("Table 1: transfer without classes", _distances_by_target),
    2: PaperTable("Table 2: what each part of the method adds", _distances, notes=(tables.COST,)),
    3: PaperTable("Table 3: path lengths from class to class, without and with the class MLP", _paths, paths=True),
    4: PaperTable("Table 4: methods across targets", _by_target),
    5: PaperTable("Table 5: all methods and all scores", _everything, metric="prdc", notes=(tables.COST,)),
}


def make(number: int, name: str, outdir: Path, report_only: bool = False, seeds: str | None = None) -> int:
    """Trains what is missing, prints the table and writes table<number>.md beside the report; how many cells failed.

    Args:
        seeds: only these, for example "0,2-4"; left out: all of the study.

    Raises: UserError for a study that does not have what the table shows.
    """
    table, study = TABLES[number], load_study(name)
    if table.metric not in study.metrics:
        raise UserError(f"table {number} shows {table.metric}, and the metrics of study {name!r} lack it; add it there")
    rows = study.figures.between if table.paths else None
    if table.paths and not rows:
        raise UserError(f"table {number} shows the rows of figures.between, and study {name!r} has none; name them")
    only = ",".join(rows) if rows else None
    part = CompareOptions(study=name, outdir=outdir, rows=only, seeds=seeds, paths=table.paths, report_only=report_only)
    failed = compare(part)
    cells = planned(study, rows=rows, seeds=parse_seeds(seeds) if seeds else None)
    shown = study.model_copy(update={"rows": _rows_of(study, rows, cells)})
    text = markdown(_report(table, Findings(shown, cells, scores.results(cells, outdir), outdir)))
    write_atomically(outdir / f"table{number}.md", lambda part: part.write_text(text, encoding="utf-8"))
    print(text)
    return failed


def _rows_of(study: Study, names: Sequence[str] | None, cells: Sequence[Cell]) -> list[Row]:
    """The rows with these names, all where none are given; each has the seeds of its cells; without cells, its own."""
    seeds_of: dict[str, set[int]] = {}
    for cell in cells:
        seeds_of.setdefault(cell.row, set()).add(cell.seed)
    rows = [row for row in study.rows if names is None or row.name in names]
    return [row.model_copy(update={"seeds": sorted(seeds_of.get(row.name, row.seeds))}) for row in rows]


def _report(table: PaperTable, findings: Findings) -> Report:
    study, found = findings.study, findings.found
    notes = [tables.SPREAD]
    for target in study.targets:
        own = [result for result in found if result.target == target.name]
        notes += [f"{target.name}: {said}" for said in protocols(own)]
    notes += tables.path_protocols(found) if table.paths else table.notes
    section = Section(study.title, tables=table.make(study, found), notes=notes)
    return Report(table.title, lead(findings), {}, [section])


def script(number: int, study_name: str) -> None:
    """The command line of scripts/table<number>.py."""

    def main(
        study: Annotated[str, typer.Option(help="A name of `hmgan list studies`.")] = study_name,
        outdir: Annotated[Path | None, typer.Option(help="Folder of the study; left out: studies/STUDY.")] = None,
        seeds: Annotated[str | None, typer.Option(help="Only these seeds, for example 0,2-4.")] = None,
        report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing; show what is finished.")] = False,
    ) -> None:
        if make(number, study, outdir or Path("studies") / study, report_only, seeds):
            raise SystemExit(1)

    main.__doc__ = f"{TABLES[number].title}: trains what is missing, prints the table, and writes table{number}.md."
    try:
        typer.run(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
