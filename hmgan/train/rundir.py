"""Run directories: 00000-<experiment>-<data>-<res>-gpus<N>-batch<B>, as users of StyleGAN know them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from operator import methodcaller
from pathlib import Path

import psutil

from hmgan.config.experiment import Experiment
from hmgan.config.loading import read_experiment, to_table
from hmgan.errors import UserError
from hmgan.files import file_name, write_atomically

CONFIG, CLAIMS = "config.json", ".claims"


def create(outdir: Path, name: str, data: str, resolution: int, world: int, experiment: Experiment) -> Path:
    """The next numbered run directory below `outdir`, with the resolved configuration in it."""
    outdir.mkdir(parents=True, exist_ok=True)
    taken = [int(m[0]) for p in outdir.iterdir() if p.is_dir() and (m := re.match(r"\d+", p.name))]
    label = f"{name}-{file_name(data)}-{resolution}-gpus{world}-batch{experiment.train.batch}"
    for number in count(max(taken, default=-1) + 1):
        folder = outdir / f"{number:05d}-{label}"
        with suppress(FileExistsError):  # another run, begun at the same moment
            folder.mkdir()
            break
    keep_config(folder, experiment)
    return folder


def keep_config(folder: Path, experiment: Experiment) -> None:
    """Writes the resolved configuration."""
    write_atomically(folder / CONFIG, lambda path: path.write_text(text_of(experiment), encoding="utf-8"))


def text_of(experiment: Experiment) -> str:
    """A configuration as its file has it."""
    return json.dumps(to_table(experiment), indent=1) + "\n"


def read_config(folder: Path) -> Experiment:
    """The configuration of a run. Raises UserError where `folder` is no run directory."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is not a run directory: {CONFIG} is not there")
    return read_experiment(folder / CONFIG)


def latest(outdir: Path, wanted: Callable[[Experiment], bool]) -> Path:
    """The wanted run directory with the highest number. Raises UserError where there is none."""
    for run in runs(outdir):
        if wanted(read_config(run)):
            return run
    raise UserError(f"no run to resume in {outdir}; give --outdir, or the run directory itself")


def runs(outdir: Path) -> list[Path]:
    """The run directories below `outdir`, the newest first."""
    return sorted((p for p in outdir.glob("[0-9]*") if (p / CONFIG).is_file()), reverse=True)


def same(outdir: Path, experiment: Experiment) -> Path | None:
    """The newest run below `outdir` of exactly this configuration; None where there is none."""
    return next(
        (run for run in runs(outdir) if (run / CONFIG).read_text(encoding="utf-8") == text_of(experiment)), None
    )


def clear(folder: Path) -> None:
    """Removes the hidden files and folders that a killed process left half written, not those of a living one."""
    for path in list(folder.rglob(".*.partial")):
        if being_written(path):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have lain in such a folder


def being_written(partial: Path) -> bool:
    """Whether the process that its name tells lives, is another one, and began before it was last written."""
    number = partial.name.split(".")[-2]
    if not number.isdigit() or int(number) == os.getpid():
        return False
    with suppress(psutil.Error, FileNotFoundError):
        owner = psutil.Process(int(number))
        return owner.status() != psutil.STATUS_ZOMBIE and owner.create_time() <= partial.stat().st_mtime
    return False


def cut_to(kimg: float, *logs: Path) -> Callable[[], None]:
    """Reads JSONL files; what it returns cuts them to lines up to `kimg`: a resumed run writes the later ones again.

    Raises: UserError for a line that no training wrote.
    """
    kept = {path: _up_to(kimg, path) for path in logs if path.is_file()}

    def cut() -> None:
        for path, text in kept.items():
            write_atomically(path, methodcaller("write_text", text, encoding="utf-8"))

    return cut


def _up_to(kimg: float, path: Path) -> str:
    try:
        # A last line without its end was cut short when the run was killed.
        whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        return "".join(line for line in whole if json.loads(line)["kimg"] <= kimg + 1e-9)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} has a line that no training wrote ({error}); remove the line") from None
