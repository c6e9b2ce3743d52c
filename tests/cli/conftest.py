"""A run that command lines go on with."""

from __future__ import annotations

import shutil

import pytest
import tiny
from test_cli import train


@pytest.fixture
def run(shards, source, tmp_path):
    """A finished run of two steps, on data of its own."""
    shutil.copytree(shards, tmp_path / "set")
    assert tiny.command(*train(tmp_path / "runs", tmp_path / "set", source, "--kimg", 0.008)) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder
