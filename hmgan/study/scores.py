"""The scores of a study's finished cells: by row, target and seed, and as one CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hmgan.errors import UserError
from hmgan.evaluation import references
from hmgan.evaluation.score import MEAN
from hmgan.files import write_atomically
from hmgan.report.scores import read_lines
from hmgan.study import cells
from hmgan.study.plan import Cell

CSV = "scores.csv"
# What two scores must share to stand in one table.
PROTOCOL = ("extractor", "digest", "resizer", "data", "seed", "truncation", "n_real", "n_fake", "protocol")
FIELDS = ("target", "row", "seed", "kimg", "metric", "class", "value", "n_real", "n_fake", "extractor", "resizer")
COST_FIELDS = ("generator_trained", "discriminator_trained", "minutes")


class Result(NamedTuple):
    """A finished cell."""

    target: str
    row: str
    seed: int
    run: Path  # its run directory
    lines: tuple[Mapping[str, Any], ...]  # of metrics.jsonl
    facts: Mapping[str, Any]  # done.json
    paths: tuple[Mapping[str, Any], ...]  # lines of paths.jsonl

    @property
    def kimg(self) -> float:
        return max((float(line["kimg"]) for line in self.lines), default=0.0)

    @property
    def minutes(self) -> float:
        return sum(self.facts["minutes"].values())

    def final(self, metric: str) -> float | None:
        """The mean over the classes at the end."""
        lines = (line for line in (*self.lines, *self.paths) if line["metric"] == metric)
        end = (line for line in lines if line["kimg"] == self.kimg and line["class"] == MEAN)
        return next((float(line["value"]) for line in end), None)


def results(planned: Sequence[Cell], outdir: Path) -> list[Result]:
    """The finished cells among those planned.

    Raises: UserError if cells of one target were trained on different inputs or scored in different ways.
    """
    found = [_result(cell, cell.folder(outdir)) for cell in planned if cells.is_done(cell.folder(outdir), cell)]
    seen: dict[tuple[str, str], tuple[object, Result]] = {}
    for result in found:
        # Rows may have sources of their own; the images are the target's.
        owners = {"images": result.target, "source": f"{result.target}/{result.row}"}
        inputs = cells.read(result.run.parent / cells.INPUTS)
        _agree(seen, {(owners[name], name): digest for name, digest in inputs.items()}, result, "was trained from")
        protocols: dict[tuple[str, str], object] = {
            (result.target, f"{line['metric']} of {line['class']}"): [line.get(key) for key in PROTOCOL]
            for line in (*result.lines, *result.paths)
        }
        _agree(seen, protocols, result, "has a score of")
    return found


def _agree(
    seen: dict[tuple[str, str], tuple[object, Result]], own: Mapping[tuple[str, str], object], result: Result, did: str
) -> None:
    for key, value in own.items():
        other, first = seen.setdefault(key, (value, result))
        if other != value:
            raise UserError(
                f"{result.run.parent} {did} another {key[1]} than {first.run.parent}, so they cannot share a table; "
                "remove one of them and run it again"
            )


def _result(cell: Cell, folder: Path) -> Result:
    # `hmgan evaluate` adds to the file afterwards; what the run itself scored comes first and stays.
    lines: dict[tuple[object, ...], Mapping[str, Any]] = {}
    for line in read_lines(folder / cells.TRAIN / "metrics.jsonl"):
        lines.setdefault((line["kimg"], line["metric"], line["class"]), line)
    facts, paths = cells.read(folder / cells.DONE), tuple(read_lines(folder / cells.PATHS))
    return Result(cell.target, cell.row, cell.seed, folder / cells.TRAIN, tuple(lines.values()), facts, paths)


def beside(found: Sequence[Result], target: str) -> dict[str, dict[str, float]]:
    """Reference row -> metric -> its mean over the classes: what a target's scores stand beside, of all its cells."""
    rows: dict[str, dict[str, float]] = {}
    for result in (result for result in found if result.target == target):
        for name, own in references.read(result.run / references.LINES).items():
            for score in (score for score in own if score.cls == MEAN):
                rows.setdefault(name, {}).setdefault(score.metric, score.value)
    return rows


def metrics(found: Sequence[Result]) -> list[str]:
    """The metrics that have a mean over the classes, in the order they were scored."""
    return list(dict.fromkeys(line["metric"] for result in found for line in result.lines if line["class"] == MEAN))


def path_metrics(found: Sequence[Result]) -> list[str]:
    """The path lengths, wherever they were measured."""
    lines = [line for result in found for line in (*result.lines, *result.paths)]
    return list(dict.fromkeys(line["metric"] for line in lines if line["metric"].startswith("path-")))


def several_classes(found: Sequence[Result]) -> bool:
    """Whether the means are over more than one class."""
    return len({line["class"] for result in found for line in result.lines} - {MEAN}) > 1


def by_seed(found: Sequence[Result], target: str, row: str, metric: str) -> dict[int, float]:
    """Seed -> the mean over the classes at the end of training."""
    own = {result.seed: result.final(metric) for result in found if (result.target, result.row) == (target, row)}
    return {seed: value for seed, value in own.items() if value is not None}


def curve(found: Sequence[Result], target: str, row: str, metric: str) -> dict[float, list[float]]:
    """Mean over the classes against kimg: kimg -> the values of all finished seeds, where all have one."""
    own = [result for result in found if (result.target, result.row) == (target, row)]
    values: dict[float, list[float]] = {}
    for line in (line for result in own for line in result.lines):
        if line["metric"] == metric and line["class"] == MEAN:
            values.setdefault(float(line["kimg"]), []).append(float(line["value"]))
    return {kimg: values[kimg] for kimg in sorted(values) if len(values[kimg]) == len(own)}


def write_csv(found: Sequence[Result], folder: Path) -> None:
    """Every score of every finished cell, with what its cell trained and how long it took."""

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, (*FIELDS, *COST_FIELDS), extrasaction="ignore")
            table.writeheader()
            for result in found:
                sizes = result.facts["trained"]
                cost = dict(zip(COST_FIELDS, (sizes["G"], sizes["D"], f"{result.minutes:.2f}"), strict=True))
                # A line's own seed is that of the fakes, one for the whole study.
                own = {"target": result.target, "row": result.row, "seed": result.seed, **cost}
                table.writerows({**line, **own} for line in (*result.lines, *result.paths))

    write_atomically(folder / CSV, write)
