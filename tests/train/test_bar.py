"""The bar of a narrow terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from hmgan.train.log import RunLog


def test_bar_percentage_and_remaining_time_stay_whole_at_80_columns(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with RunLog(tmp_path, 4.0, console) as log:
        log.tick(1.0, {"loss/G": 0.5, "loss/D": 1.25, "loss/r1": 0.01, "loss/contrastive": 2.0})
        shown = Console(file=io.StringIO(), width=80, color_system=None)
        shown.print(log._bar.get_renderable())
    line = shown.file.getvalue().rstrip("\n")
    assert "\n" not in line
    assert len(line) <= 80
    assert re.match(r"━━.{8}\s+25% (-:--:--|\d:\d\d:\d\d) kimg 1.0 .* G 0.500 D 1.", line)
