"""`hmgan list` and `show`: what there is."""

from __future__ import annotations

import inspect

import tomli_w
from rich.console import Console
from rich.table import Table

from hmgan import components
from hmgan.config import entries
from hmgan.config import experiment as config
from hmgan.errors import UserError, unknown


def print_list(kind: str | None) -> None:
    """A table of names and summaries, of one kind or of all."""
    kinds = [entries.kind_named(kind)] if kind else list(entries.FOLDERS)
    table = Table(box=None, pad_edge=False)
    for column in ("kind", "name", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    for each in kinds:
        for name in entries.known(each):
            table.add_row(each, name, summary(each, name))
    Console().print(table)


def summary(kind: str, name: str) -> str:
    """An entry's summary, or the first line of its component's docstring."""
    if name in entries.entries(kind):
        return str(entries.entry(kind, name).get("summary", ""))
    return (inspect.getdoc(components.get(kind, name)) or "").split("\n")[0]


def print_entry(name: str, overrides: list[str]) -> None:
    """An experiment resolved to its last setting, or any other entry, as TOML.

    Raises: UserError with the nearest spelling for a name that no kind has.
    """
    kinds = [kind for kind in entries.FOLDERS if name in entries.known(kind)]
    if not kinds:
        everything = {each for kind in entries.FOLDERS for each in entries.known(kind)}
        raise unknown("entry", name, everything)
    if overrides and "experiment" not in kinds:
        raise UserError(f"--set changes experiments, and {name!r} is a {kinds[0]}; leave it out")
    for kind in kinds:
        print(f"# {kind} {name}")
        if kind == "experiment":
            print(tomli_w.dumps(config.to_table(config.load(name, overrides))))
        elif kind in entries.DATA_ONLY:
            print(tomli_w.dumps(entries.entry(kind, name)))
        else:
            component, options = entries.component(kind, name, {})
            shown = {k: v for k, v in components.defaults(kind, component, options).items() if v is not None}
            print(tomli_w.dumps({"summary": summary(kind, name), "name": component, **shown}))
