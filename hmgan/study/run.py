"""`hmgan compare`: the cells of a study, each in a process of its own; then the report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hmgan.config import entries
from hmgan.data.named import open_training
from hmgan.errors import UserError
from hmgan.generators import build
from hmgan.generators.source import source_of
from hmgan.options.shared import parse_seeds
from hmgan.options.study import CompareOptions
from hmgan.study import cells, rescoring
from hmgan.study.cells import State
from hmgan.study.plan import Cell, load_study
from hmgan.study.plan import cells as planned
from hmgan.study.progress import StudyProgress
from hmgan.study.report import study_report
from hmgan.study.workers import HERE, Limit, Worker, workers
from hmgan.train import claims
from hmgan.train.dryrun import parameters

POLL = 0.2  # seconds


def compare(options: CompareOptions) -> int:
    """Runs what is not finished, reports everything, and returns the number of cells that failed.

    Raises: UserError before anything is run, for a mistake in the study or a cell begun with other settings.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("hmgan compare runs one process per cell; start it once per GPU instead, on the same --outdir")
    everywhere = [HERE] if options.workers is None else workers(options.workers)
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
    if not options.report_only:
        # Inside run directories paths are absolute: the study can be resumed from anywhere.
        outdir, limit = options.folder.absolute(), Limit(options.minutes)
        with StudyProgress(wanted, outdir) as progress:
            failures = run_everywhere(progress, everywhere, limit)
            for cell in wanted if options.paths and not limit.reached else ():
                if rescoring.lacks_paths(cell, cell.folder(outdir)):
                    progress.say(f"path lengths of {cell.label}")
                    rescoring.measure_paths(cell, cell.folder(outdir))
    study_report(study, whole, options.folder, options.line(), options.overrides)
    print(f"report in {options.folder / 'report.html'}")
    for label, reason in failures.items():
        print(f"failed: {label}: {reason}")
    return len(failures)


def run_everywhere(progress: StudyProgress, everywhere: Sequence[Worker], limit: Limit) -> dict[str, str]:
    """`run_all` by all workers at once, each cell by one of them; label -> reason for those that failed."""
    with ThreadPoolExecutor(len(everywhere)) as pool:
        try:
            failed = list(pool.map(lambda worker: run_all(progress, worker, limit), everywhere))
        except BaseException:  # an interrupt reaches this thread alone; the others end their cells' processes
            limit.stop()
            raise
    failures = {label: reason for each in failed for label, reason in each.items()}
    unfinished = [cell for cell in progress.wanted if not cells.is_scored(cell.folder(progress.outdir), cell)]
    rest = [cell.label for cell in unfinished if cell.label not in failures]
    if limit.reached:
        progress.say(f"{len(rest)} cells are not finished; the same command resumes them")
    elif rest:
        progress.say(f"{len(rest)} cells are being run by other processes: {', '.join(rest)}")
    return failures


def run_all(progress: StudyProgress, worker: Worker, limit: Limit) -> dict[str, str]:
    """Runs every cell that nobody has finished or holds; label -> reason for those that failed.

    Passes are repeated while they achieve something: a cell that another process gave up meanwhile is taken up here.
    """
    failures: dict[str, str] = {}
    ran = True
    while ran and not limit.reached:
        ran = False
        for cell in progress.wanted:
            folder = cell.folder(progress.outdir)
            if limit.reached or cell.label in failures or cells.is_scored(folder, cell):
                continue
            claim = claims.take(folder / cells.CLAIMS)
            if claim is None:
                continue
            with claim:
                if not cells.is_scored(folder, cell):  # by whoever held it until now
                    ran = True
                    reason = run_one(cell, claim, progress, worker, limit)
                    if reason is not None:
                        failures[cell.label] = reason
    return failures


def run_one(cell: Cell, claim: claims.CellLock, progress: StudyProgress, worker: Worker, limit: Limit) -> str | None:
    """Runs a cell under its claim; the reason if it failed."""
    folder = cell.folder(progress.outdir)
    cells.check_same(folder, cell)  # another process may have begun it since the first look
    cells.begin(folder, cell)
    progress.started(cell)
    with (folder / cells.OUTPUT).open("ab") as output:
        first = output.tell()
        process = start(folder, output.fileno(), worker.environment)
        try:
            while process.poll() is None and not limit.reached:
                time.sleep(POLL)
                progress.look(cell)
                if not claim.beat():
                    progress.ended(cell, "taken over by another process while this one was suspended")
                    return None
        finally:
            stop(process)
    if cells.is_scored(folder, cell):
        progress.finished(cell)
    elif limit.reached:
        progress.ended(cell, f"stopped at kimg {cells.progress(folder):g}")
    else:
        reason = why(folder / cells.OUTPUT, first, process.returncode)
        cells.put(folder / cells.FAILED, {"reason": reason})  # until the cell is run again
        progress.ended(cell, f"failed: {reason}")
        return reason
    return None


def start(folder: Path, output: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A cell's process. It ends when its input does: with this process, whatever ends that."""
    command = [sys.executable, "-m", "hmgan.study.worker", str(folder), *map(str, entries.added())]
    whole = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}  # into a file, which any locale reads
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=whole)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a cell's process if it still runs, and waits for it."""
    if process.poll() is None:
        process.terminate()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def why(output: Path, first: int, code: int) -> str:
    """The last line that a failed process said, which is the exception; or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}" + (", probably for lack of memory" if code == -9 else "")
    said = output.read_bytes()[first:].decode(errors="replace").strip().splitlines()
    return said[-1].removeprefix("error: ") if said else f"ended with code {code}"


def print_plan(wanted: Sequence[Cell], outdir: Path) -> None:
    """How far each cell is, and how much it trains. Writes nothing."""
    table = Table(box=None, pad_edge=False)
    for column, side in (("cell", "left"), ("state", "left"), ("kimg", "right"), ("G trains", "right"), ("", "left")):
        table.add_column(column, justify=side, no_wrap=bool(column))  # type: ignore[arg-type]
    alike = {(cell.target, cell.row): cell for cell in wanted}  # of any seed
    sizes = {key: trained(cell) for key, cell in alike.items()}
    states: Counter[State] = Counter()
    for cell in wanted:
        now = cells.standing(cell.folder(outdir), cell)
        states[now.state] += 1
        size, problem = sizes[cell.target, cell.row]
        kimg = f"{now.kimg:g} / {cell.experiment.train.kimg:g}"
        table.add_row(cell.label, now.state.value, kimg, size, now.note or problem)
    Console(markup=False).print(table)
    counts = ", ".join(f"{states[state]} {state.value}" for state in State if states[state])
    print(f"{len(wanted)} cells: {counts}; dry run: nothing was trained or written")


def trained(cell: Cell) -> tuple[str, str]:
    """How many of G's parameters a cell trains; "?" and the reason where that cannot be told."""
    try:
        data = open_training(cell.experiment.data, labelled=cell.experiment.conditional)
        source = source_of(cell.experiment)
        network = build.build(cell.experiment, source, len(data.classes)).generator
    except UserError as error:
        return "?", str(error)
    return f"{parameters(network)[1]:,}", ""
