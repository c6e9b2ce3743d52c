"""The chaos script, in short: a few kills cost nothing. `scripts/chaos.py` runs the hundred."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import chaos


@pytest.mark.slow
def test_killed_and_resumed_runs_equal_one_that_was_never_killed(tmp_path):
    figures = chaos.chaos(6, 1, tmp_path)
    assert figures.clean, figures
    assert figures.kills == 6
    assert figures.while_saving > 0
