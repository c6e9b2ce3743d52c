"""`hmgan compare`: the cells of a study, one after the other, each in a process of its own; then the report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hmgan.config import entries
from hmgan.data.named import open_training
from hmgan.errors import UserError
from hmgan.generators import build
from hmgan.generators.source import source_of
from hmgan.options import CompareOptions, parse_seeds
from hmgan.study import cells, claims, rescoring
from hmgan.study.cells import State
from hmgan.study.plan import Cell, load_study
from hmgan.study.plan import cells as planned
from hmgan.study.progress import Progress
from hmgan.study.report import study_report
from hmgan.study.workers import HERE, Limit, Place, places
from hmgan.train.dryrun import parameters

POLL = 0.2  # seconds


def compare(options: CompareOptions) -> int:
    """Runs what is not finished, reports everything, and returns the number of cells that failed.

    Raises: UserError before anything is run, for a mistake in the study or a cell begun with other settings.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("hmgan compare runs one process per cell; start it once per GPU instead, on the same --outdir")
    study = load_study(options.study)
    whole = planned(study, options.overrides)
    rows, targets = (names.split(",") if names else None for names in (options.rows, options.targets))
    seeds = parse_seeds(options.seeds) if options.seeds else None
    wanted = planned(study, options.overrides, rows=rows, targets=targets, seeds=seeds)
    for cell in whole:
        cells.check_same(cell.folder(options.folder), cell)
    if options.dry_run:
        print_plan(wanted, options.folder)
        return 0
    failures: dict[str, str] = {}
    everywhere = places(options.workers) if options.workers else [HERE]
    if not options.report_only:
        # Inside run directories paths are absolute: the study can be resumed from anywhere.
        outdir = options.folder.absolute()
        with Progress(wanted, outdir) as progress:
            limit = Limit(options.minutes)
            failures = run_everywhere(wanted, outdir, progress, everywhere, limit)
            for cell in wanted if options.paths and not limit.reached else ():
                if rescoring.lacks_paths(cell, cell.folder(outdir)):
                    progress.say(f"path lengths of {cell.label}")
                    rescoring.measure_paths(cell, cell.folder(outdir))
    study_report(study, whole, options.folder, options.line())
    console = Console()
    console.print(f"report in {options.folder / 'report.html'}", highlight=False, soft_wrap=True)
    for label, reason in failures.items():
        console.print(f"failed: {label}: {reason}", markup=False, highlight=False, soft_wrap=True)
    return len(failures)


def run_everywhere(
    wanted: Sequence[Cell], outdir: Path, progress: Progress, everywhere: Sequence[Place], limit: Limit
) -> dict[str, str]:
    """`run_all` in every place at once, each cell in one of them; label -> reason for those that failed."""
    with ThreadPoolExecutor(len(everywhere)) as pool:
        try:
            running = [pool.submit(run_all, wanted, outdir, progress, place, limit) for place in everywhere]
            failed = [each.result() for each in running]
        except BaseException:  # an interrupt reaches this thread alone; the others end their cells' processes
            limit.stop()
            raise
    failures = {label: reason for each in failed for label, reason in each.items()}
    rest = [cell for cell in wanted if cell.label not in failures and not cells.is_scored(cell.folder(outdir), cell)]
    if limit.reached:
        progress.say(f"{len(rest)} cells are not finished; the same command goes on with them")
    else:
        progress.left_to_others(rest)
    return failures


def run_all(
    wanted: Sequence[Cell], outdir: Path, progress: Progress, place: Place = HERE, limit: Limit | None = None
) -> dict[str, str]:
    """Runs every cell that nobody has finished or holds; label -> reason for those that failed.

    Passes go on while they achieve something: a cell that another process gave up meanwhile is taken up here.
    """
    failures: dict[str, str] = {}
    limit = limit or Limit()
    while True:
        ran = False
        for cell in wanted:
            if limit.reached or cell.label in failures or cells.is_scored(cell.folder(outdir), cell):
                continue
            claim = claims.take(cell.folder(outdir) / cells.CLAIMS)
            if claim is None:
                continue
            with claim:
                if cells.is_scored(cell.folder(outdir), cell):  # by whoever held it until now
                    continue
                ran = True
                reason = run_one(cell, outdir, claim, progress, place, limit)
            if reason is not None:
                failures[cell.label] = reason
        if not ran or limit.reached:
            return failures


def run_one(
    cell: Cell, outdir: Path, claim: claims.CellLock, progress: Progress, place: Place, limit: Limit
) -> str | None:
    """Runs a cell under its claim; the reason if it failed."""
    folder = cell.folder(outdir)
    cells.check_same(folder, cell)  # another process may have begun it since the first look
    cells.begin(folder, cell)
    progress.started(cell)
    with (folder / cells.OUTPUT).open("ab") as output:
        first = output.tell()
        worker = start(folder, output.fileno(), place.environment)
        try:
            while worker.poll() is None:
                time.sleep(POLL)
                progress.look(cell)
                if not claim.beat():
                    stop(worker)
                    progress.lost(cell)
                    return None
                if limit.reached:
                    stop(worker)
                    break
        finally:
            stop(worker)
    if cells.is_done(folder, cell):
        progress.finished(cell)
        return None
    if limit.reached:
        progress.stopped(cell)
        return None
    reason = why(folder / cells.OUTPUT, first, worker.returncode)
    cells.fail(folder, reason)
    progress.failed(cell, reason)
    return reason


def start(folder: Path, output: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A cell's process. It ends when its input does: with this process, whatever ends that."""
    command = [sys.executable, "-m", "hmgan.study.worker", str(folder), *map(str, entries.added())]
    inside = {**os.environ, **environment}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=inside)


def stop(worker: subprocess.Popen[bytes]) -> None:
    """Ends a cell's process if it still runs, and waits for it."""
    if worker.poll() is None:
        worker.terminate()
    worker.wait()
    if worker.stdin is not None:
        worker.stdin.close()


def why(output: Path, first: int, code: int) -> str:
    """The last line that a failed process said, which is the exception; or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}" + (", as for want of memory" if code == -9 else "")
    said = output.read_bytes()[first:].decode(errors="replace").strip().splitlines()
    return said[-1].removeprefix("error: ") if said else f"ended with code {code}"


def print_plan(wanted: Sequence[Cell], outdir: Path) -> None:
    """How far each cell is, and how much it trains. Writes nothing."""
    table = Table(box=None, pad_edge=False)
    for column, side in (("cell", "left"), ("state", "left"), ("kimg", "right"), ("G trains", "right"), ("", "left")):
        table.add_column(column, justify=side, no_wrap=bool(column))  # type: ignore[arg-type]
    sizes: dict[tuple[str, str], tuple[str, str]] = {}
    states = dict.fromkeys(State, 0)
    for cell in wanted:
        now = cells.standing(cell.folder(outdir), cell)
        states[now.state] += 1
        size, problem = sizes.setdefault((cell.target, cell.row), trained(cell))
        kimg = f"{now.kimg:g} / {cell.experiment.train.kimg:g}"
        table.add_row(cell.label, now.state.value, kimg, size, escape(now.note or problem))
    console = Console()
    console.print(table)
    counts = ", ".join(f"{count} {state.value}" for state, count in states.items() if count)
    console.print(f"{len(wanted)} cells: {counts}; dry run: nothing was trained or written", highlight=False)


def trained(cell: Cell) -> tuple[str, str]:
    """How many of G's parameters a cell trains, and why that cannot be told."""
    try:
        data = open_training(cell.experiment.data, labelled=cell.experiment.conditional)
        source = source_of(cell.experiment)
        network = build.build(cell.experiment, source, len(data.classes)).generator
    except UserError as error:
        return "?", str(error)
    return f"{parameters(network)[1]:,}", ""
