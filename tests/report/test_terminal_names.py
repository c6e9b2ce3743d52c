"""Folders and rows whose names rich would take for its markup."""

from __future__ import annotations

from rich.console import Console

from hmgan.commands.demo import tell
from hmgan.train.log import RunLog


def test_a_folder_in_brackets_is_named_at_the_end_of_a_demo(tmp_path, capsys):
    folder = tmp_path / "[" / "]"
    folder.mkdir(parents=True)
    (folder / "REPORT.md").touch()
    tell(folder, [], [], 1.0)
    assert f"{folder}/REPORT.md" in capsys.readouterr().out.replace("\n", "")


def test_a_status_line_shows_a_class_in_brackets(tmp_path, capsys):
    with RunLog(tmp_path, 1.0, Console(force_terminal=True, width=200)) as log:
        log._bar.update(log._task, description="collapsed: [/]", refresh=True)
    assert "collapsed: [/]" in capsys.readouterr().out
