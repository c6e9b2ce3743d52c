"""An experiment as TOML with a comment beside every setting: what it is, and its default. 80 columns wide."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from hmgan import components
from hmgan.config.experiment import CHOICES, Experiment
from hmgan.config.settings import Choice
from hmgan.errors import model_at

WIDTH, COLUMN = 80, 28  # of the text, and where comments begin
NBSP = "\N{NO-BREAK SPACE}"


def commented(table: Mapping[str, Any]) -> str:
    """TOML that reads back as this table of an experiment; a setting without a value becomes a comment."""
    lines = [*_settings(table, Experiment.model_fields)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", *_section(key, value)]
            for inner, choice in value.items():
                if f"{key}.{inner}" in CHOICES:
                    lines += ["", *_section(f"{key}.{inner}", choice)]
    return "\n".join(lines) + "\n"


def commented_choice(key: str, choice: Choice) -> str:
    """The same of one component, as the table `key` of an experiment."""
    return "\n".join(_section(key, choice.model_dump(exclude_none=True))) + "\n"


def _field(path: str) -> FieldInfo:
    """A setting of an experiment, by its path."""
    above, _, key = path.rpartition(".")
    table = _table(above) if above else Experiment
    assert table is not None
    return table.model_fields[key]


def _table(path: str) -> type[BaseModel] | None:
    """The model of a table of an experiment; None for a setting that is none."""
    return model_at(Experiment, *path.split("."))


def _sentence(path: str, field: FieldInfo) -> str:
    """What a setting is: its description, or the first line of a table's own docstring."""
    table = _table(path)
    return (field.description or (table.__doc__ if table else None) or "").split("\n")[0].removesuffix(".")


def _fields(path: str, name: str | None) -> dict[str, FieldInfo]:
    """The settings in a table of an experiment; `name` is the component's, where the table chooses one."""
    table = _table(path)
    assert table is not None
    if name is None:
        return table.model_fields
    kind, usual = CHOICES[path], _field(path).default
    default = usual.name if isinstance(usual, Choice) else usual
    named: Any = Field(default, description=components.summary(kind, name))
    return {"name": named, **components.schema(kind, name).model_fields}


def _section(key: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield from _beside(f"[{key}]", _sentence(key, _field(key)))
    yield from _settings(table, _fields(key, table.get("name")))


def _settings(table: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    for key, field in fields.items():
        value = table.get(key)
        if isinstance(value, Mapping) or (value is None and field.default is not None):
            continue  # a table of its own, or left out because it is the default
        line = f"# {key} = none" if value is None else f"{key} = {_literal(value)}"
        yield from _beside(line, f"{_sentence(key, field)} ({_usual(field, value)})")


def _usual(field: FieldInfo, value: Any) -> str:
    """The default, where it is not what there is."""
    if field.is_required():
        return "required"
    default = field.default.name if isinstance(field.default, Choice) else field.default
    if default == value:
        return "default"
    return f"default {'none' if default is None else _literal(default)}"


def _beside(line: str, text: str) -> Iterator[str]:
    """The line, and the text as a comment in a column of its own."""
    # A command stays on one line, and so does a default.
    held = re.sub(r"`[^`]+`|\(default \S", lambda found: found[0].replace(" ", NBSP), text)
    wrapped = textwrap.wrap(held, WIDTH - COLUMN - 2, break_on_hyphens=False)
    comments = [f"# {part}".replace(NBSP, " ") for part in wrapped]
    first = "" if len(line) > COLUMN - 2 else comments.pop(0)
    yield f"{line:<{COLUMN}}{first}".rstrip()
    yield from (f"{'':{COLUMN}}{comment}" for comment in comments)


def _literal(value: Any) -> str:
    """As TOML on one line, which for all but tables is as JSON."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False)
