"""The first status line comes soon, however far the first tick is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rich.console import Console

from hmgan.train import log


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(("seconds", "when"), [(0.25, 5.25), (3.0, 6.0), (4.9, 9.8)])
def test_the_first_status_comes_within_ten_seconds(seconds, when, terminal, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(log, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with (tmp_path / "out").open("w") as out:
        console = Console(file=out, force_terminal=terminal, width=80)
        with log.RunLog(tmp_path, 1000.0, console) as status:
            status.start(0.0)
            for step in range(1, 100):
                now[0] += seconds
                status.advance(step * 0.016)
                if (tmp_path / "log.txt").exists():
                    break
    assert now[0] - 100 == pytest.approx(when)
    assert (tmp_path / "log.txt").read_text().startswith(f"kimg {step * 0.016:<8.3f} time ")
