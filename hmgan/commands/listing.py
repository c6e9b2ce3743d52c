"""`hmgan list`: what there is."""

from __future__ import annotations

import shutil
import textwrap

from hmgan.config import entries


def print_list(kind: str | None) -> None:
    """A table of names and summaries, of one kind or of all."""
    kinds = [entries.kind_named(kind)] if kind else list(entries.FOLDERS)
    rows = [(each, name, text) for each in kinds for name, text in entries.summaries(each).items()]
    rows.insert(0, ("kind", "name", "what it is"))
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    width = max(shutil.get_terminal_size().columns - first - second, 20)
    for each, name, text in rows:
        lines = textwrap.wrap(text, width) or [""]
        print(f"{each:<{first}}{name:<{second}}{lines[0]}".rstrip())
        for line in lines[1:]:
            print(" " * (first + second) + line)
