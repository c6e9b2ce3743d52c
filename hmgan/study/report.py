"""A study's report: what was run, which orderings hold, and per target the scores, curves and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hmgan.evaluation.score import MEAN, Score
from hmgan.report.document import Column, Command, Report, Section, Table, write_report
from hmgan.report.document import Row as Line
from hmgan.report.scores import DIGEST, meaning_section
from hmgan.report.transfer import listed
from hmgan.study import cells, figures, scores, tables
from hmgan.study.cells import State
from hmgan.study.plan import Cell
from hmgan.study.schema import Study, Target
from hmgan.study.scores import Result
from hmgan.units import duration

RULE = (
    "Scores are compared seed by seed: the difference is how much better the first row is than the second under the "
    "same seed. An ordering holds if the mean difference exceeds its margin, t(0.975, n - 1) standard errors of the n "
    "differences; it does not hold if the mean falls below minus the margin; anything else is within noise. "
    "The margin is for each ordering alone; it is not widened for their number."
)


class Findings(NamedTuple):
    """All that the report is made from."""

    study: Study
    planned: Sequence[Cell]
    found: list[Result]
    outdir: Path


def study_report(study: Study, planned: Sequence[Cell], outdir: Path, command: str) -> None:
    """Writes REPORT.md, report.html, scores.csv and the pictures, from the cells that are finished.

    Raises: UserError if finished cells cannot be compared.
    """
    findings = Findings(study, planned, scores.results(planned, outdir), outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    scores.write_csv(findings.found, outdir)
    sections = [
        _rows(findings),
        _orderings(findings),
        _across(findings),
        *(_target(findings, target) for target in study.targets),
        _meaning(findings.found),
        _unfinished(findings),
        Section("Reproduce", commands=(Command("This study is run, and gone on with, by:", command),)),
    ]
    report = Report(
        title=study.title,
        lead=lead(findings),
        facts=_facts(findings),
        sections=tuple(section for section in sections if any(section[1:])),
    )
    write_report(report, outdir)


def lead(findings: Findings) -> str:
    """What was trained, and how much of it is finished."""
    study, done, whole = findings.study, len(findings.found), len(findings.planned)
    rows, names = sum(row.experiment is not None for row in study.rows), [target.name for target in study.targets]
    text = (
        f"{_count(rows, 'method')} on {_count(len(names), 'target')} ({listed(names)})"
        f" with {_count(len(study.seeds), 'seed')} each, each trained on {study.kimg:g} kimg "
        f"({1000 * study.kimg:,.0f} real images shown). "
    )
    if done < whole:
        return f"{text}{done} of the {whole} trainings are finished; what is missing is shown as missing."
    return f"{text}All of them are finished."


def _facts(findings: Findings) -> dict[str, str]:
    study, found = findings.study, findings.found
    facts = {
        "Trainings": f"{len(found)} of {len(findings.planned)}",
        "Seeds": listed([str(seed) for seed in study.seeds]),
        "Training": f"{study.kimg:g} kimg each",
        "Scored": f"{study.per_class:,} fakes per class",
    }
    if found:
        machines = {(str(r.facts["device"]), str(r.facts["threads"]), str(r.facts["torch"])) for r in found}
        facts["Machine"] = "; ".join(f"{d}, {_count(int(n), 'thread')}, torch {v}" for d, n, v in sorted(machines))
        facts["Time of all trainings"] = duration(60 * sum(result.minutes for result in found))
    return facts


def _rows(findings: Findings) -> Section:
    """What each row is."""
    study = findings.study
    columns = tuple(Column(title, False) for title in ("row", "the paper's row", "experiment", "changes to it"))
    from_scratch = {cell.row for cell in findings.planned if cell.experiment.backbone is not None}
    lines = []
    for row in study.rows:
        changes = [*row.set, *([f"self-alignment of {row.align_kimg:g} kimg first"] if row.align_kimg else [])]
        changes += ["from scratch, without the source"] if row.name in from_scratch else []
        lines.append(Line((row.name, row.paper, row.experiment or "not run here", ", ".join(changes))))
    given = f"Every row has these settings over those of its experiment: {', '.join(study.set)}." if study.set else ""
    return Section(
        "What was compared",
        text=tuple(text for text in (f"{study.summary}.", given) if text),
        tables=(Table("Rows", columns, tuple(lines)),),
    )


def _orderings(findings: Findings) -> Section:
    """Every claim on every target, by the first metric."""
    study, found = findings.study, findings.found
    metrics = scores.metrics(found)
    if not study.claims or not metrics:
        return Section("Orderings of the paper")
    names = [target.name for target in study.targets]
    columns = (Column("ordering", False), Column("the paper", False), *(Column(name, False) for name in names))
    lines = tuple(
        Line((claim.name, claim.paper, *(tables.verdict(found, claim, name, metrics[0]) for name in names)))
        for claim in study.claims
    )
    return Section(
        "Orderings of the paper",
        text=(RULE,),
        tables=(Table(f"By the mean {metrics[0]} of the classes", columns, lines),),
        notes=("The figures behind each verdict are with the target's scores below.",),
    )


def _across(findings: Findings) -> Section:
    """The layout of the paper's Table 4: one score, a column per target."""
    study, found = findings.study, findings.found
    metrics = scores.metrics(found)
    if len(study.targets) < 2 or not metrics:
        return Section("Across the targets")
    return Section(
        "Across the targets",
        text=("One column per target, as in the paper's Table 4, with the paper's mFID beside it where it has one.",),
        tables=(tables.across(study, found, metrics[0]),),
        notes=(tables.SPREAD,),
    )


def _target(findings: Findings, target: Target) -> Section:
    """The layout of the paper's Tables 2 and 5, its claims, its curves and its pictures."""
    study, found = findings.study, [result for result in findings.found if result.target == target.name]
    text = [f"From {target.source} to the classes of {target.data}."]
    if target.paper:
        text.append(f"The paper's columns are of {target.paper}: other images, another size, another metric.")
    given = tables.scores(study, found, target.name)
    metrics = scores.metrics(found)
    if study.claims and found:
        given += [tables.claims(study, found, target.name, metric) for metric in metrics[:2]]
    if not found:
        text.append("No training of this target is finished.")
    notes = [tables.SPREAD, tables.COST, *protocols(found)]
    if scores.path_metrics(found):
        given.append(tables.path_lengths(study, found, target.name))
        notes += tables.path_protocols(found)
    pictures = figures.pictures(study, found, target.name, findings.outdir)
    return Section(f"Target: {target.name}", tuple(text), tuple(given), tuple(notes), tuple(pictures))


def protocols(found: Sequence[Result]) -> list[str]:
    """How a target's scores were made; a line per extractor."""
    said = {}
    for result in found:
        for line in result.lines:
            # The first metric's counts: of those after it, some look at fakes alone.
            if line["class"] == MEAN and "extractor" in line and line["extractor"] not in said:
                said[line["extractor"]] = (
                    f"Extractor {line['extractor']}, sha256 of its weights {line['digest'][:DIGEST]}"
                    f"\N{HORIZONTAL ELLIPSIS}, images resized by {line['resizer']}; {line['n_real']:,} real and "
                    f"{line['n_fake']:,} generated images over all classes. The mean weighs classes equally."
                )
    return list(said.values())


def _meaning(found: Sequence[Result]) -> Section:
    line = next((line for result in found for line in result.lines if line["metric"].startswith("FD-")), None)
    return meaning_section([] if line is None else [Score.of_line(line)])


def _unfinished(findings: Findings) -> Section:
    """Cells that are to do, begun, running or failed."""
    lines = []
    for cell in findings.planned:
        now = cells.standing(cell.folder(findings.outdir), cell)
        if now.state is not State.DONE:
            kimg = f"{now.kimg:g} of {cell.experiment.train.kimg:g}"
            lines.append(Line((cell.label, now.state.value, kimg, now.note)))
    if not lines:
        return Section("Not finished")
    columns = (Column("cell", False), Column("state", False), Column("kimg"), Column("note", False))
    return Section("Not finished", tables=(Table("Trainings that are missing above", columns, tuple(lines)),))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
