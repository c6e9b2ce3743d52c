"""What is shown while images are packed."""

from __future__ import annotations

import pytest

from hmgan.data.pack.progress import busy, counting


@pytest.mark.parametrize("terminal", ["0", "1"])
def test_a_name_in_brackets_is_shown_as_it_is(terminal, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)
    with busy("reading [/]"):
        pass
    with counting("writing [/]", 2) as done:
        done()
    shown = capsys.readouterr().err
    assert ("reading [/]" in shown, "writing [/]" in shown) == (terminal == "1",) * 2
