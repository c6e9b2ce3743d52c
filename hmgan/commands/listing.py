"""`hmgan list` and `evaluate`: what there is, and how good it is."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from hmgan.config import entries
from hmgan.errors import UserError

TABLE_COLUMNS = 3  # metrics side by side in a terminal of 80 characters


def print_list(kind: str | None) -> None:
    """A table of names and summaries, of one kind or of all."""
    kinds = [entries.kind_named(kind)] if kind else list(entries.FOLDERS)
    rows = [(each, name, text) for each in kinds for name, text in entries.summaries(each).items()]
    rows.insert(0, ("kind", "name", "what it is"))
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    width = max(shutil.get_terminal_size().columns - first - second, 20)
    for each, name, text in rows:
        lines = textwrap.wrap(text, width) or [""]
        print(f"{each:<{first}}{name:<{second}}{lines[0]}".rstrip())
        for line in lines[1:]:
            print(" " * (first + second) + line)


def print_scores(
    run: Path,
    data: str | None,
    per_class: int | None,
    seed: int,
    trunc: float,
    extractor: str,
    metrics: Sequence[str],
    perceptual: str,
) -> None:
    """Scores the newest snapshot of a run, prints a table and adds to its metrics.jsonl.

    Raises: UserError if there is no generator, or its classes are not those of the data.
    """
    from rich.console import Console

    from hmgan.config.settings import Data
    from hmgan.data.named import open_images, scored_against
    from hmgan.evaluation.judge import Judge
    from hmgan.evaluation.table import scores_table
    from hmgan.files import cache_folder
    from hmgan.generators.snapshot import load_generator, newest_snapshot
    from hmgan.train.distributed.runtime import Runtime
    from hmgan.types import UNLABELLED

    runtime = Runtime()
    with runtime.watched():
        loaded = load_generator(run)
        with runtime.accelerator.main_process_first():  # rank 0 packs a registry set, the others find it there
            kept = loaded.config.get("data")
            trained_on = None if kept is None else Data.model_validate(kept)
            wanted = scored_against(trained_on, data or evaluation_data(run))
            reals = open_images(wanted, labelled=loaded.classes != (UNLABELLED,))
        if reals.classes != loaded.classes:
            raise UserError(
                f"the data has classes {', '.join(reals.classes)}, the generator {', '.join(loaded.classes)}; "
                "give --data with the same classes in the same order"
            )
        judge = Judge(reals, extractor, cache_folder() / "features", runtime, metrics, perceptual)
        count = per_class or min(max(reals.counts), 10_000)
        verdict = judge(loaded.generator.to(runtime.device), loaded.classes, count, seed, trunc)
        if verdict is None:  # the first rank has it
            return
        columns = list(dict.fromkeys(score.metric for score in verdict.scores))
        for first in range(0, len(columns), TABLE_COLUMNS):
            shown = columns[first : first + TABLE_COLUMNS]
            Console().print(scores_table([("score", [s for s in verdict.scores if s.metric in shown])]))
        if not run.is_dir():  # a registry source, which belongs to the package
            return
        snapshot, kimg = newest_snapshot(run), loaded.config.get("kimg", 0.0)
        with (run / "metrics.jsonl").open("a") as file:
            for score in verdict.scores:
                file.write(json.dumps(judge.line(score, kimg, snapshot.name, seed, trunc)) + "\n")


def evaluation_data(run: Path) -> str | None:
    """The evaluation data that a run's configuration names."""
    from hmgan.train import rundir

    if not (run / "snapshots").is_dir():
        return None
    experiment = rundir.read_config(run)
    return experiment.evaluation.data
