"""A cell on disk. Its folder holds the files below.

cell.json      what is trained: the resolved experiment and the self-alignment before it
inputs.json    digests of the images and the source it was begun with
claims/        who runs it (claims.py)
align/, train/ run directories, as `hmgan align` and `hmgan train` leave them
output.txt     what the run said
failed.json    why it stopped, if it failed
done.json      written last: the cell is finished, and belongs to cell.json
asked.json     scores that a finished cell is to gain
paths.jsonl    path lengths, measured afterwards of the rows that the paper's Table 3 compares
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from hmgan.config.loading import resolve, to_table
from hmgan.config.moved import renamed
from hmgan.errors import UserError
from hmgan.files import sha256_of, write_atomically
from hmgan.report.scores import read_lines
from hmgan.study.plan import Cell
from hmgan.train import claims

CELL, INPUTS, DONE, FAILED, ASKED = "cell.json", "inputs.json", "done.json", "failed.json", "asked.json"
ALIGN, TRAIN, CLAIMS, OUTPUT, PATHS = "align", "train", "claims", "output.txt", "paths.jsonl"
# What a cell's result does not depend on: texts, settings of the machine (threads change a sum's last digits), and who
# scores it, which is in every score's name.
MACHINE = ("compute.threads", "loader.workers", "train.trackers", "train.checkpoints")
INDIFFERENT = ("summary", "provenance", *MACHINE, "evaluation.extractor")


class State(Enum):
    """How far a cell is, in the report's words."""

    WAITING = "to do"
    PARTIAL = "begun"
    RUNNING = "running"
    FAILED = "failed"
    DONE = "done"


class Standing(NamedTuple):
    """How far a cell is, and how much it has trained."""

    state: State
    kimg: float = 0.0
    note: str = ""  # who runs it, or why it failed


def standing(folder: Path, cell: Cell) -> Standing:
    """How far a cell is. Raises UserError if it was begun with other settings."""
    check_same(folder, cell)
    if is_done(folder, cell):
        lacking = without(folder, cell)
        return Standing(State.DONE, cell.experiment.train.kimg, f"without {', '.join(lacking)}" if lacking else "")
    kimg = progress(folder)
    holder = claims.holder(folder / CLAIMS) if (folder / CLAIMS).is_dir() else None
    if holder is not None:
        return Standing(State.RUNNING, kimg, holder)
    if (folder / FAILED).is_file():
        return Standing(State.FAILED, kimg, str(read(folder / FAILED)["reason"]))
    return Standing(State.PARTIAL if (folder / CELL).is_file() else State.WAITING, kimg)


def is_done(folder: Path, cell: Cell) -> bool:
    """Whether a cell is finished: with the settings that its cell.json names, and to the study's kimg."""
    if not (folder / DONE).is_file():
        return False
    done = read(folder / DONE)
    if done.get("cell_sha256") != sha256_of(folder / CELL):
        raise UserError(f"{folder / DONE} is not of the {CELL} beside it; remove {folder} to run the cell anew")
    return bool(done["kimg"] >= cell.experiment.train.kimg)


def is_scored(folder: Path, cell: Cell) -> bool:
    """Whether a cell is finished and scored by all that its study asks for now, so that nothing is left to do."""
    return is_done(folder, cell) and not unscored(folder, cell)


def unscored(folder: Path, cell: Cell) -> dict[str, list[str]]:
    """Extractor -> the metrics that its study asks for now and a finished cell has not by it, where there are any."""
    known, asked = scored(folder), extractors(to_table(cell.experiment))
    lacking = {by: [name for name in cell.metrics if name not in known.get(by, [])] for by in asked}
    return {by: names for by, names in lacking.items() if names}


def scored(folder: Path) -> dict[str, list[str]]:
    """Extractor -> the metrics that a finished cell has been scored with."""
    kept = read(folder / CELL)
    begun_with = dict.fromkeys(extractors(kept["experiment"]), kept["metrics"])
    return dict(read(folder / DONE).get("scored", begun_with))  # there once it has gained some


def without(folder: Path, cell: Cell) -> list[str]:
    """What a finished cell lacks, in few words: metrics of every extractor, and extractors that lack more."""
    lacking = unscored(folder, cell)
    asked = extractors(to_table(cell.experiment))
    everywhere = [name for name in cell.metrics if all(name in lacking.get(extractor, []) for extractor in asked)]
    return everywhere + [extractor for extractor, names in lacking.items() if len(names) > len(everywhere)]


def extractors(experiment: Mapping[str, Any]) -> list[str]:
    """The names of those that score an experiment, as a table."""
    return str(experiment["evaluation"]["extractor"]).split(",")


def progress(folder: Path) -> float:
    """The kimg trained so far, by the training's own status lines."""
    try:
        lines = read_lines(folder / TRAIN / "stats.jsonl")
    except UserError:  # its last line is being written this moment
        return 0.0
    return float(lines[-1]["kimg"]) if lines else 0.0


def begin(folder: Path, cell: Cell) -> None:
    """Writes cell.json, under the cell's claim; for a finished cell asked.json, so that it stays finished meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    experiment = to_table(cell.experiment)
    if is_done(folder, cell):
        put(folder / ASKED, {"lacking": unscored(folder, cell), "experiment": experiment})
        return
    for name in (DONE, PATHS, ASKED):
        (folder / name).unlink(missing_ok=True)
    asked = {"metrics": cell.metrics, "scored": cell.scored, "align_kimg": cell.align_kimg}
    put(folder / CELL, {"cell": cell.label, **asked, "experiment": experiment})


def finish(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes done.json: nothing comes after it."""
    put(folder / DONE, {"cell_sha256": sha256_of(folder / CELL), **facts})


def gain(folder: Path, more: Mapping[str, list[str]]) -> None:
    """Adds scores to what done.json says a finished cell has."""
    known = scored(folder)
    total = {by: [*known.get(by, []), *more.get(by, [])] for by in {**known, **more}}
    put(folder / DONE, {**read(folder / DONE), "scored": total})
    (folder / ASKED).unlink(missing_ok=True)


def check_inputs(folder: Path, inputs: Mapping[str, str | None]) -> None:
    """Records the digests of the images and the source; on a resumed cell they must be the same.

    Raises: UserError if one changed since the cell was begun.
    """
    path = folder / INPUTS
    if not path.is_file():
        put(path, inputs)
    kept = read(path)
    for name, digest in inputs.items():
        if kept.get(name) != digest:
            raise UserError(f"the {name} changed since {folder} was begun; remove the folder to run the cell anew")


def check_same(folder: Path, cell: Cell) -> None:
    """Raises UserError if the cell's folder was begun with settings that would give another result.

    More kimg are no other settings: the training is resumed.
    """
    if not (folder / CELL).is_file():
        return
    kept = read(folder / CELL)
    # Resolved, so that a setting that is new since then has its default in both.
    then = {"align_kimg": kept["align_kimg"], **_flat(to_table(resolve(renamed(kept["experiment"]))))}
    now = {"align_kimg": cell.align_kimg, **_flat(to_table(cell.experiment))}
    then["train.kimg"] = max(then["train.kimg"], now["train.kimg"])

    def said(table: Mapping[str, Any], key: str) -> str:
        return repr(table[key]) if key in table else "left out"

    keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if keys:
        changed = ", ".join(f"{key} was {said(then, key)}, now {said(now, key)}" for key in keys[:3])
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        raise UserError(
            f"{folder} was begun with other settings: {changed}{more}; "
            "give the same settings, another --outdir, or remove the folder"
        )


def read(path: Path) -> dict[str, Any]:
    """One of a cell's JSON files. Raises UserError where it cannot be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove {path.parent} to run the cell anew") from None


def put(path: Path, content: Mapping[str, Any]) -> None:
    """Writes one of a cell's JSON files, all or nothing."""
    write_atomically(path, lambda part: part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8"))


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": c}} -> {"a.b": c}, without what makes no difference."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}.")
        elif path not in INDIFFERENT:
            flat[path] = value
    return flat
