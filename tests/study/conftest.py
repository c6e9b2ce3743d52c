"""A study of the tiny world: two methods, one target, two seeds, four steps each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import tiny

from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.study import run, worker

STUDY = """
title = "A tiny study"
summary = "Two methods on insects"
provenance = "a test"
kimg = 0.016
per_class = 8
metrics = ["fd", "kd", "prdc"]
seeds = [0, 1]
set = ["train.batch=4", "train.snap=0.004", "train.tick=0.004", "train.trackers=[]", "compute.threads=1"]

[figures]
parts = "hyper"
between = ["table", "hyper"]
styles = "hyper"

[[targets]]
name = "insects"
data = "{data}"
source = "{source}"
paper = "cats to dogs"

[[rows]]
name = "table"
experiment = "gan-memory"
paper = "GAN Memory"
numbers.insects = {{ mFID = 61.84, "mKID x100" = 3.75 }}

[[rows]]
name = "hyper"
experiment = "hyper-mod-b"
paper = "Hyper-Mod"
numbers.insects = {{ mFID = 45.28 }}

[[rows]]
name = "other"
paper = "Somebody else's"
numbers.insects = {{ mFID = 112.64 }}

[[claims]]
name = "hyper over table"
better = "hyper"
worse = "table"
paper = "45.28 against 61.84"
"""

Write = Callable[..., Path]


class InProcess:
    """A cell's process, without the process: it is over when it is started."""

    started: ClassVar[list[str]] = []
    stdin = None

    def __init__(self, folder: Path, output: int, environment: dict[str, str]) -> None:
        self.started.append("/".join(folder.parts[-3:]))
        self.returncode = 0
        try:
            worker.run_cell(folder)
        except UserError as error:
            os.write(output, f"something before\nerror: {error}\n".encode())
            self.returncode = 2

    def poll(self) -> int:
        return self.returncode

    def wait(self) -> int:
        return self.returncode


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Cells train in this process; the labels of those that were started."""
    InProcess.started = []
    monkeypatch.setattr(run, "start", InProcess)
    return InProcess.started


@pytest.fixture
def study(tmp_path: Path, shards: Path, source: Path) -> Write:
    """Writes the tiny study, with replacements, into a registry of the user's own; returns that registry."""

    def write(*changes: tuple[str, str]) -> Path:
        text = STUDY.format(data=shards, source=source)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        folder = tmp_path / "registry"
        (folder / "studies").mkdir(parents=True, exist_ok=True)
        (folder / "studies" / "tiny.toml").write_text(text)
        if folder not in entries._extra:
            entries.add(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def finished() -> dict[str, Path]:
    """Where the tiny study was run, once. Read only."""
    return {}


@pytest.fixture
def whole(finished: dict[str, Path], study: Write, in_process: list[str], tmp_path: Path) -> Path:
    """The tiny study, finished, in a folder of the test's own."""
    study()
    if not finished:
        assert tiny.command("compare", "tiny", "--outdir", tmp_path / "first") == 0
        finished["folder"] = tmp_path / "first"
        in_process.clear()
    return shutil.copytree(finished["folder"], tmp_path / "study")
