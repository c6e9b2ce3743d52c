"""docs/launch.md shows what `hmgan launch --dry-run` prints, word for word."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny

from hmgan.launch.targets import TARGETS

DOC = Path(__file__).parents[2] / "docs" / "launch.md"
SHOWN = re.findall(r"```\n\$ hmgan (launch [^\n]+)\n(.*?)```", DOC.read_text(), re.DOTALL)


def test_every_target_is_shown():
    for target in TARGETS:
        assert any(f"--target {target} " in command for command, _ in SHOWN)


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_document_shows_what_is_printed(command, output, capsys, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    capsys.readouterr()
    assert tiny.command(*shlex.split(command)) == 0
    # Relative to the working directory or not: the files' names are what counts.
    names = re.compile(r"\S+/(?=[\w.-]+\.(sh|sbatch)\b)")
    assert names.sub("", capsys.readouterr().out) == names.sub("", output)
