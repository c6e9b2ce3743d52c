"""Scores of a finished training that its snapshots do not have: the study's other metrics, and path lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hmgan.config.experiment import Experiment
from hmgan.data.named import beside, open_images, scored_against
from hmgan.evaluation import references
from hmgan.evaluation.judge import Judge
from hmgan.files import cache_folder, write_atomically
from hmgan.generators.snapshot import load_generator, newest_snapshot
from hmgan.study import cells
from hmgan.study.plan import Cell
from hmgan.train.distributed.runtime import Runtime

PATH_LENGTHS = "ppl"  # the metric's name


def scored(run: Path, experiment: Experiment, metrics: Sequence[str]) -> str:
    """Lines of metrics.jsonl: these metrics of the newest snapshot, as `hmgan evaluate` would."""
    settings, loaded, runtime = experiment.evaluation, load_generator(run), Runtime()
    reals = open_images(scored_against(experiment.data, settings.data), labelled=experiment.conditional)
    judge = Judge(reals, settings.extractor, cache_folder() / "features", runtime, metrics)
    scores = judge(loaded.generator.to(runtime.device), loaded.classes, settings.per_class, settings.seed)
    assert scores is not None
    others = beside(experiment.data, labelled=experiment.conditional)
    rows = references.references(judge, others, experiment.source, settings.per_class, settings.seed)
    with (run / references.LINES).open("a", encoding="utf-8") as file:
        file.write(references.text_of(rows))
    kimg, snapshot = loaded.config["kimg"], newest_snapshot(run).name
    lines = (judge.line(each, kimg, snapshot, settings.seed) for each in scores)
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def lacks_paths(cell: Cell, folder: Path) -> bool:
    """Whether a cell is finished and its path lengths have not been measured."""
    return cells.is_done(folder, cell) and PATH_LENGTHS not in cell.metrics and not (folder / cells.PATHS).is_file()


def measure_paths(cell: Cell, folder: Path) -> None:
    """Writes a finished cell's path lengths, to a file apart from the scores that every row has."""
    text = scored(folder / cells.TRAIN, cell.experiment, [PATH_LENGTHS])
    write_atomically(folder / cells.PATHS, lambda part: part.write_text(text, encoding="utf-8"))
