"""`hmgan list`, `show` and `evaluate`: what there is, and how good it is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import tomli_w
from rich.console import Console
from rich.table import Table

from hmgan import components
from hmgan.config import entries
from hmgan.config import experiment as config
from hmgan.config.settings import Data
from hmgan.errors import UserError, unknown

TABLE_COLUMNS = 3  # metrics side by side in a terminal of 80 characters


def print_list(kind: str | None) -> None:
    """A table of names and summaries, of one kind or of all."""
    kinds = [entries.kind_named(kind)] if kind else list(entries.FOLDERS)
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    for each in kinds:
        for name in entries.known(each):
            table.add_row(each, name, summary(each, name))
    Console().print(table)


def summary(kind: str, name: str) -> str:
    """An entry's summary, or the first line of its component's docstring."""
    if name in entries.entries(kind):
        return str(entries.entry(kind, name).get("summary", ""))
    return (inspect.getdoc(components.get(kind, name)) or "").split("\n")[0]


def print_entry(name: str, overrides: list[str]) -> None:
    """An experiment resolved to its last setting, or any other entry, as TOML.

    Raises: UserError with the nearest spelling for a name that no kind has.
    """
    kinds = [kind for kind in entries.FOLDERS if name in entries.known(kind)]
    if not kinds:
        everything = {each for kind in entries.FOLDERS for each in entries.known(kind)}
        raise unknown("entry", name, everything)
    if overrides and "experiment" not in kinds:
        raise UserError(f"--set changes experiments, and {name!r} is a {kinds[0]}; leave it out")
    for kind in kinds:
        print(f"# {kind} {name}")
        if kind == "experiment":
            print(tomli_w.dumps(config.to_table(config.load(name, overrides))))
        elif kind in entries.DATA_ONLY:
            print(tomli_w.dumps(entries.entry(kind, name)))
        else:
            component, options = entries.component(kind, name, {})
            shown = {k: v for k, v in components.defaults(kind, component, options).items() if v is not None}
            print(tomli_w.dumps({"summary": summary(kind, name), "name": component, **shown}))


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
