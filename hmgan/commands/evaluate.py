"""`hmgan evaluate`: how good a generator is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console

from hmgan.config.settings import Data
from hmgan.data.images import Images
from hmgan.data.named import open_images, scored_against
from hmgan.errors import UserError
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.score import Score
from hmgan.evaluation.table import scores_table
from hmgan.files import cache_folder
from hmgan.generators.snapshot import SNAPSHOTS, Loaded, load_generator, newest_snapshot
from hmgan.options import EvaluateOptions
from hmgan.train import rundir
from hmgan.train.distributed.runtime import Runtime
from hmgan.types import UNLABELLED

TABLE_COLUMNS = 3  # metrics side by side in a terminal of 80 characters


def print_scores(options: EvaluateOptions) -> None:
    """Scores the newest snapshot of a run, prints a table and adds to its metrics.jsonl.

    Raises: UserError if there is no generator, or its classes are not those of the data.
    """
    runtime, run = Runtime(), options.run
    with runtime.watched():
        loaded = load_generator(run)
        with runtime.accelerator.main_process_first():  # rank 0 packs a registry set, the others find it there
            reals = reals_of(loaded, options)
        if reals.classes != loaded.classes:
            raise UserError(
                f"the data has classes {', '.join(reals.classes)}, the generator {', '.join(loaded.classes)}; "
                "give --data with the same classes in the same order"
            )
        features = cache_folder() / "features"
        judge = Judge(reals, options.extractor, features, runtime, options.metrics.split(","), options.perceptual)
        count = options.per_class or min(max(reals.counts), 10_000)
        generator = loaded.generator.to(runtime.device)
        verdict = judge(generator, loaded.classes, count, options.seed, options.trunc)
        if verdict is None:  # the first rank has it
            return
        if run.is_dir():  # and no registry source, which belongs to the package
            snapshot, kimg = newest_snapshot(run), loaded.config.get("kimg", 0.0)
            with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
                for score in verdict.scores:
                    line = judge.line(score, kimg, snapshot.name, options.seed, options.trunc)
                    file.write(json.dumps(line) + "\n")
        print_tables(verdict.scores)


def reals_of(loaded: Loaded, options: EvaluateOptions) -> Images:
    """The images to score against: those named, those that the run is scored against, or those of its training."""
    kept = loaded.config.get("data")
    trained_on = None if kept is None else Data.model_validate(kept)
    named = options.data
    if not named and (options.run / SNAPSHOTS).is_dir():
        named = rundir.read_config(options.run).evaluation.data
    return open_images(scored_against(trained_on, named), labelled=loaded.classes != (UNLABELLED,))


def print_tables(scores: Sequence[Score]) -> None:
    """The scores as tables that a terminal has room for."""
    columns = list(dict.fromkeys(score.metric for score in scores))
    for first in range(0, len(columns), TABLE_COLUMNS):
        shown = columns[first : first + TABLE_COLUMNS]
        Console().print(scores_table([("score", [score for score in scores if score.metric in shown])]))
