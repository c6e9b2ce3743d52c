"""`hmgan evaluate`: how good a generator is."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from hmgan.config.loading import data_of
from hmgan.data import named
from hmgan.data.images import Images
from hmgan.data.named import is_here, open_images, scored_against
from hmgan.errors import UserError, some_of
from hmgan.evaluation.counts import check_fakes, check_size, warnings
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.references import References, references
from hmgan.evaluation.score import OWN
from hmgan.evaluation.table import print_tables, references_table
from hmgan.files import add_lines, cache_folder
from hmgan.generators.snapshot import SNAPSHOTS, Loaded, load_generator, newest_snapshot
from hmgan.options.models import EvaluateOptions
from hmgan.train import rundir
from hmgan.train.distributed.runtime import Runtime
from hmgan.types import UNLABELLED


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
                f"the data has classes {some_of(reals.classes)}, the generator {some_of(loaded.classes)}; "
                "give --data with the same classes in the same order"
            )
        features, metrics = cache_folder() / "features", options.metrics.split(",")
        count = options.per_class or min(max(reals.counts), 10_000)
        check_size(reals, loaded.generator.resolution)
        check_fakes(metrics, count)  # before the features of the reals
        judge = Judge(reals, options.extractor, features, runtime, metrics, options.perceptual)
        for text in warnings(metrics, reals, count, max(judge.networks.dims)) if runtime.main else []:
            print(text, file=sys.stderr)
        generator = loaded.generator.to(runtime.device)
        scores = judge(generator, loaded.classes, count, options.seed, options.trunc)
        beside = reference_rows(judge, loaded, options, count) if options.references else {}
        if scores is None:  # the first rank has it
            return
        if run.is_dir():  # and no registry source, which belongs to the package
            snapshot, kimg = newest_snapshot(run), loaded.config.get("kimg", 0.0)
            lines = (judge.line(score, kimg, snapshot.name, options.seed, options.trunc) for score in scores)
            add_lines(run / "metrics.jsonl", map(json.dumps, lines))
        print_tables([("score", scores)], Console(markup=False))
        if beside:
            Console(markup=False).print(references_table({OWN: scores, **beside}))


def reference_rows(judge: Judge, loaded: Loaded, options: EvaluateOptions, count: int) -> References:
    """What the scores stand beside. Training images or a source that are gone are left out, with a line."""
    data, source = data_of(loaded.config.get("data")), loaded.config.get("source")
    labelled, others = loaded.classes != (UNLABELLED,), None
    try:
        others = named.beside(data, labelled=labelled)
    except UserError as error:
        print(f"without rows of photographs: {error}", file=sys.stderr)
    try:
        return references(judge, others, source, count, options.seed)
    except UserError as error:
        print(f"without the row of the source: {error}", file=sys.stderr)
        return references(judge, others, None, count, options.seed)


def reals_of(loaded: Loaded, options: EvaluateOptions) -> Images:
    """The images to score against: those named, those that the run is scored against, or those of its training."""
    trained_on = data_of(loaded.config.get("data"))
    named = options.data
    if not named and (options.run / SNAPSHOTS).is_dir():
        named = rundir.read_config(options.run).evaluation.data
    if not named and trained_on is not None and (away := [s for s in trained_on.sources if not is_here(s)]):
        raise UserError(f"{options.run} was trained on {away[0]}, which is not here; give the images with --data")
    return open_images(scored_against(trained_on, named), labelled=loaded.classes != (UNLABELLED,))
