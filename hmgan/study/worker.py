"""One cell in a process of its own: `python -m hmgan.study.worker FOLDER REGISTRY...`. Its memory ends with it.

A cell that was begun is resumed from its checkpoints; `run.py` holds the claim.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.config.loading import resolve
from hmgan.errors import UserError
from hmgan.metrics.measures import AT_SNAPSHOTS
from hmgan.report.scores import read_lines
from hmgan.study import cells, rescoring
from hmgan.train import checkpoint, rundir
from hmgan.train.dryrun import parameters
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training
from hmgan.train.tasks.alignment import aligning
from hmgan.train.trainer import CHECKPOINTS


def run_cell(folder: Path) -> None:
    """Self-alignment where the cell has one, the training, and done.json. A finished cell gains the scores it lacks.

    Raises: UserError for whatever is wrong with the cell's experiment, or where nothing is left to score.
    """
    if (folder / cells.DONE).is_file():
        asked = cells.read(folder / cells.ASKED)
        score(folder, resolve(asked["experiment"]), asked["lacking"])
        cells.gain(folder, asked["lacking"])
        return
    table = cells.read(folder / cells.CELL)
    experiment, align_kimg = resolve(table["experiment"]), table["align_kimg"]
    if align_kimg:
        stage(folder, cells.ALIGN, alignment(experiment, align_kimg))
        experiment = experiment.model_copy(update={"aligned": str(folder / cells.ALIGN)})
    at_end = table["scored"] == "end"
    facts = stage(folder, cells.TRAIN, without_scores(experiment) if at_end else experiment)
    more = [name for name in table["metrics"] if at_end or name not in AT_SNAPSHOTS]
    score(folder, experiment, dict.fromkeys(cells.extractors(table["experiment"]), more))
    spent = {name: minutes(folder / name) for name in (cells.ALIGN, cells.TRAIN)}
    cells.finish(folder, {**facts, "kimg": experiment.train.kimg, "align_kimg": align_kimg, "minutes": spent})


def score(folder: Path, experiment: Experiment, lacking: Mapping[str, list[str]]) -> None:
    """Adds the newest snapshot's scores to metrics.jsonl: extractor -> metrics."""
    for metrics in dict.fromkeys(tuple(names) for names in lacking.values() if names):
        # All that lack the same see one set of fakes.
        by = ",".join(extractor for extractor, names in lacking.items() if tuple(names) == metrics)
        lines = rescoring.scored(folder / cells.TRAIN, evaluated(experiment, extractor=by), metrics)
        with (folder / cells.TRAIN / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)


def alignment(experiment: Experiment, kimg: float) -> Experiment:
    """The self-alignment that an experiment starts from, under the same seed; one snapshot, at its end."""
    aligned = aligning(without_scores(experiment))
    length = aligned.train.model_copy(update={"kimg": kimg, "snap": kimg})
    return aligned.model_copy(update={"train": length})


def without_scores(experiment: Experiment) -> Experiment:
    """The same experiment, without scores at snapshots."""
    return evaluated(experiment, per_class=0)


def evaluated(experiment: Experiment, **changes: Any) -> Experiment:
    """The same experiment, scored in another way."""
    return experiment.model_copy(update={"evaluation": experiment.evaluation.model_copy(update=changes)})


def stage(folder: Path, name: str, experiment: Experiment) -> dict[str, Any]:
    """Trains in one of a cell's run directories, or resumes there; what was trained, and on what."""
    prepared, run = prepare(experiment), folder / name
    if prepared.data is not None:
        # Of the packed sets: which part of them a row sees, and in what order, are its settings.
        images = " ".join(index.digest for index in prepared.data.indexed("a study").indexes)
        source = None if prepared.source is None else prepared.source.digest
        cells.check_inputs(folder, {"images": images, "source": source})
    trained = {side: parameters(network)[1] for side, network in zip("GD", prepared.networks, strict=True)}
    begun = checkpoint.newest(run / CHECKPOINTS) is not None
    if not begun:  # nothing to resume from, and what was logged would be logged twice
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
    rundir.keep_config(run, experiment)
    run_training(prepared, run, resume=begun)
    return {
        "trained": trained,
        "host": platform.node(),
        "device": prepared.runtime.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "finished": time.time(),
    }


def minutes(folder: Path) -> float:
    """Minutes that a run trained, by its status lines: what was done again after a kill counts once."""
    lines = read_lines(folder / "stats.jsonl")
    starts = (0.0, *(line["kimg"] for line in lines))
    return sum(line["sec_per_kimg"] * (line["kimg"] - start) for start, line in zip(starts, lines, strict=False)) / 60


def end_with_parent() -> None:
    """Ends this process when the one that started it dies, which closes the pipe to standard input.

    Otherwise a killed `hmgan compare` would leave a training behind, while the next one runs the same cell.
    """

    def wait() -> None:
        # Not through sys.stdin, whose lock the interpreter wants when it ends.
        while os.read(0, 1):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    try:
        for registry in sys.argv[2:]:
            entries.add(Path(registry))
        run_cell(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
