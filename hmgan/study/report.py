"""A study's report: what was run, which orderings hold, and per target the scores, curves and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hmgan.evaluation.score import MEAN, Score
from hmgan.report.document import Column, Command, Report, Section, Table, TableRow, write_report
from hmgan.report.scores import extractor_note, meaning_section
from hmgan.report.transfer import listed
from hmgan.study import cells, figures, orderings, scores, tables
from hmgan.study.cells import State
from hmgan.study.plan import Cell
from hmgan.study.schema import Study, Target
from hmgan.study.scores import Result
from hmgan.units import duration


class Findings(NamedTuple):
    """All that the report is made from."""

    study: Study
    planned: Sequence[Cell]
    found: list[Result]
    outdir: Path
    overrides: Sequence[str] = ()  # of all cells, from the command line


def study_report(
    study: Study, planned: Sequence[Cell], outdir: Path, command: str, overrides: Sequence[str] = ()
) -> None:
    """Writes REPORT.md, report.html, scores.csv and the pictures, from the cells that are finished.

    Raises: UserError if finished cells cannot be compared.
    """
    findings = Findings(study, planned, scores.results(planned, outdir), outdir, overrides)
    outdir.mkdir(parents=True, exist_ok=True)
    scores.write_csv(findings.found, outdir)
    lines = (line for result in findings.found for line in result.lines)
    distances = (str(line["extractor"]) for line in lines if line["metric"].startswith("FD-"))
    sections = [
        _rows(findings),
        orderings.section(study, findings.found),
        _across(findings),
        *(_target(findings, target) for target in study.targets),
        meaning_section(next(distances, None)),
        _unfinished(findings),
        Section("Reproduce", commands=[Command("This study is run, and resumed, by:", command)]),
    ]
    write_report(Report(study.title, lead(findings), _facts(findings), sections), outdir)


def lead(findings: Findings) -> str:
    """What was trained, and how much of it is finished."""
    study, done, whole = findings.study, len(findings.found), len(findings.planned)
    rows, names = sum(row.experiment is not None for row in study.rows), [target.name for target in study.targets]
    lengths = _trained(findings)
    kimg, images = listed([f"{each:g}" for each in lengths]), listed([f"{1000 * each:,.0f}" for each in lengths])
    missing = f"{done} of the {whole} trainings are finished; what is missing is shown as missing."
    return (
        f"{_count(rows, 'method')} on {_count(len(names), 'target')} ({listed(names)})"
        f" with {_seeds(study)}, each trained on {kimg} kimg ({images} real images shown). "
        f"{missing if done < whole else 'All of them are finished.'}"
    )


def _seeds(study: Study) -> str:
    """How many seeds a row has; where rows differ, the fewest and the most."""
    counts = sorted({len(study.seeds_of(row)) for row in study.rows if row.experiment})
    return f"{_count(counts[0], 'seed')} each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _trained(findings: Findings) -> list[float]:
    """The kimg that the finished cells were trained for; where there are none, that the cells are to be."""
    planned = (cell.experiment.train.kimg for cell in findings.planned)
    return sorted({float(result.facts["kimg"]) for result in findings.found} or set(planned))


def _facts(findings: Findings) -> dict[str, str]:
    study, found = findings.study, findings.found
    per_class = sorted({cell.experiment.evaluation.per_class for cell in findings.planned})
    facts = {
        "Trainings": f"{len(found)} of {len(findings.planned)}",
        "Seeds": listed(list(map(str, study.seeds))),
        "Training": f"{listed([f'{kimg:g}' for kimg in _trained(findings)])} kimg each",
        "Scored": f"{listed([f'{count:,}' for count in per_class])} fakes per class",
    }
    if found:
        machines = {(str(r.facts["device"]), str(r.facts["threads"]), str(r.facts["torch"])) for r in found}
        facts["Machine"] = "; ".join(f"{d}, {_count(int(n), 'thread')}, torch {v}" for d, n, v in sorted(machines))
        facts["Time of all trainings"] = duration(60 * sum(result.minutes for result in found))
    return facts


def _rows(findings: Findings) -> Section:
    """What each row is."""
    study = findings.study
    columns = [Column(title, False) for title in ("row", "the paper's row", "experiment", "changes to it")]
    from_scratch = {cell.row for cell in findings.planned if cell.experiment.backbone is not None}
    lines = []
    for row in study.rows:
        changes = [*row.set, *([f"self-alignment of {row.align_kimg:g} kimg first"] if row.align_kimg else [])]
        changes += ["from scratch, without the source"] if row.name in from_scratch else []
        lines.append(TableRow((row.name, row.paper, row.experiment or "not run here", ", ".join(changes))))
    text = [f"{study.summary}."]
    if study.set:
        text.append(f"Every row has these settings over those of its experiment: {', '.join(study.set)}.")
    if findings.overrides:
        text.append(f"Over those and over the study's own, by --set: {', '.join(findings.overrides)}.")
    return Section("What was compared", text, [Table("Rows", columns, lines)])


def _across(findings: Findings) -> Section:
    """The layout of the paper's Table 4: one score, a column per target."""
    study, found, title = findings.study, findings.found, "Across the targets"
    metrics = scores.metrics(found)
    if len(study.targets) < 2 or not metrics:
        return Section(title)
    text = "One column per target, as in the paper's Table 4, with the paper's mFID beside it where it has one."
    return Section(title, [text], [tables.across(study, found, metrics[0])], [tables.SPREAD])


def _target(findings: Findings, target: Target) -> Section:
    """The layout of the paper's Tables 2 and 5, its claims, its curves and its pictures."""
    study, found = findings.study, [result for result in findings.found if result.target == target.name]
    text = [f"From {target.source} to the classes of {target.data}."]
    if target.paper:
        text.append(f"The paper's columns are of {target.paper}: other images, another size, another metric.")
    given = tables.scores(study, found, target.name)
    if study.claims and found:
        metrics = orderings.verdict_metrics(scores.metrics(found))
        given += [tables.claims(study, found, target.name, metric) for metric in metrics]
    if not found:
        text.append("No training of this target is finished.")
    notes = [tables.SPREAD, tables.COST, tables.BESIDE, *protocols(found)]
    if scores.path_metrics(found):
        given.append(tables.path_lengths(study, found, target.name))
        notes += tables.path_protocols(found)
    pictures = figures.pictures(study, found, target.name, findings.outdir)
    return Section(f"Target: {target.name}", text, given, notes, pictures)


def protocols(found: Sequence[Result]) -> list[str]:
    """How a target's scores were made; a line per extractor."""
    said: dict[str, str] = {}
    for line in (line for result in found for line in result.lines if line["class"] == MEAN and "extractor" in line):
        # The first metric's counts: of those after it, some look at fakes alone.
        said.setdefault(
            line["extractor"],
            f"{extractor_note(Score.of_line(line))}; {line['n_real']:,} real and {line['n_fake']:,} generated images "
            "over all classes. The mean weighs classes equally.",
        )
    return list(said.values())


def _unfinished(findings: Findings) -> Section:
    """Cells that are to do, begun, running or failed."""
    lines = []
    for cell in findings.planned:
        now = cells.standing(cell.folder(findings.outdir), cell)
        if now.state is not State.DONE:
            kimg = f"{now.kimg:g} of {cell.experiment.train.kimg:g}"
            lines.append(TableRow((cell.label, now.state.value, kimg, now.note)))
    columns = (Column("cell", False), Column("state", False), Column("kimg"), Column("note", False))
    table = Table("Trainings that are missing above", columns, lines)
    return Section("Not finished", tables=[table] if lines else [])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
