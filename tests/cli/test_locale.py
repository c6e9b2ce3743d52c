"""Whatever the locale, files are UTF-8 and tables are shown."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path

import pytest
import tiny

import hmgan

TEXT = ("r", "w", "a", "x")


def in_the_locale(tree):
    """Lines that read or write text without saying how it is encoded."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
        text = name in ("read_text", "write_text") or (name in ("open", "fdopen") and set(modes) & set(TEXT))
        if text and not any(keyword.arg == "encoding" for keyword in call.keywords):
            yield call.lineno


def test_no_text_file_is_read_or_written_in_the_locales_encoding():
    assert list(in_the_locale(ast.parse("a.read_text()\nopen(b, 'w')\nopen(c, 'wb')"))) == [1, 2]
    for path in Path(hmgan.__file__).parent.rglob("*.py"):
        assert not list(in_the_locale(ast.parse(path.read_text(encoding="utf-8")))), path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_the_terminal_lacks_is_shown_plainly(encoding, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr("hmgan.commands.listing.print_list", lambda kind: print("FD \N{DOWNWARDS ARROW} 狐"))
    assert tiny.command("list") == 0
    out.flush()
    assert out.buffer.getvalue().decode(encoding) == "FD v ?\n"
