"""Threads of the command line sleep while they wait, where the user has not said otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("asked", "got"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_torchs_threads_wait_as_the_environment_says_and_passively_where_it_is_silent(asked, got, tmp_path):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "hmgan", "sample", "fashion-32", "--seeds", "0", "--outdir", tmp_path],
        env={**inherited, **asked, "OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr)) == {got}
