"""Experiments from registry entries, overrides and options, and back to tables."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import ValidationError

from hmgan import components
from hmgan.config import entries, moved
from hmgan.config.experiment import CHOICES, Experiment, check_beside, chosen
from hmgan.config.settings import Choice, Data
from hmgan.errors import UserError, explain
from hmgan.options.shared import Setting

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# The key that a bare value stands for, where a table is expected.
BARE = {**dict.fromkeys((path.rpartition(".")[2] for path in CHOICES), "name"), "data": "sources"}

# An absolute path, also as a URL, or after the name of the network that it is of.
PLACE = re.compile(r"(file://|(?P<before>[\w-]+:))?(?P<path>/(?!/).*)", re.DOTALL)


def load_experiment(name: str, overrides: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of that name with `a.b=c` overrides, every component checked and its defaults filled in.

    Args:
        extra: nested values from the command line's own options, applied after the overrides.
    Raises: UserError for a wrong name, key, type or value.
    """
    table = read_extended(name)
    for override in overrides:
        merge(table, parse_override(override))
    merge(table, dict(extra or {}))
    moved.refuse(table)
    return resolve(table)


def resolve(table: dict[str, Any]) -> Experiment:
    """A validated experiment from its table."""
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        raise UserError(explain(error, Experiment)) from None
    checked: dict[str, Choice | None] = {}
    for path, kind in CHOICES.items():
        choice = chosen(experiment, path)
        checked[path] = choice and choose(kind, choice.name, choice.options, where=path)
    compute = experiment.compute.model_copy(update={"engine": checked.pop("compute.engine")})
    experiment = experiment.model_copy(update={**checked, "compute": compute})
    check_beside(experiment)
    return experiment


def choose(kind: str, name: str, options: Mapping[str, Any], where: str = "") -> Choice:
    """The component behind a name, with every option that it has. Raises UserError for a wrong one."""
    component, given = entries.component(kind, name, options)
    return Choice(name=component, **components.check(kind, component, given, where=where))


def settings(options: DataclassInstance) -> dict[str, Any]:
    """The options that were given and stand for settings, as a table to lay over an experiment's."""
    table: dict[str, Any] = {}
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        for setting in getattr(hint, "__metadata__", ()):
            if isinstance(setting, Setting) and (value := getattr(options, name)) is not None:
                *above, key = setting.path.split(".")
                (table.setdefault(above[0], {}) if above else table)[key] = value
    return table


def read_extended(name: str) -> dict[str, Any]:
    """An experiment's table, on top of the one it extends; one level only."""
    table = entries.entry("experiment", name)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise UserError(f"extends of experiment {name!r} must be a name in quotes, got {parent!r}; mend its file")
    base = entries.entry("experiment", parent)
    if "extends" in base:
        raise UserError(f"experiment {name!r} extends {parent!r}, which extends another; one level is the limit")
    merge(base, table)
    return base


def merge(base: dict[str, Any], top: Mapping[str, Any]) -> None:
    """Lays `top` over `base`, table by table, in place.

    A new component name drops the options of the old one; options without a name are kept for the name that follows.
    """
    for key, value in top.items():
        below = base.get(key)
        if isinstance(below, str | list) and isinstance(value, Mapping) and key in BARE:
            below = {BARE[key]: below}
        if not isinstance(value, Mapping):
            base[key] = value
        elif isinstance(below, dict) and value.get("name", below.get("name")) == below.get("name", value.get("name")):
            merge(below, value)
            base[key] = below
        else:
            base[key] = dict(value)


def parse_override(text: str) -> dict[str, Any]:
    """`a.b=c` -> {"a": {"b": c}}; c is TOML where it parses as such and a bare string elsewhere; "none" is None."""
    path, equals, value = text.partition("=")
    if not equals or not all(key.strip() for key in path.split(".")):
        raise UserError(f"--set wants a.b=c, got {text!r}")
    parsed: Any
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = None if value == "none" else value
    for key in reversed(path.strip().split(".")):
        parsed = {key: parsed}
    return parsed


def anchored(experiment: Experiment) -> Experiment:
    """Relative paths made absolute, so that a run can be resumed and scored from any directory."""

    def anchor(kind: str, name: str | None) -> str | None:
        is_path = name is not None and name not in entries.entries(kind) and Path(name).exists()
        return os.path.abspath(name) if is_path and name is not None else name

    evaluation = experiment.evaluation.model_copy(update={"data": anchor("dataset", experiment.evaluation.data)})
    data = experiment.data
    if data is not None:
        data = data.model_copy(update={"sources": [anchor("dataset", source) for source in data.sources]})
    places = {
        "data": data,
        "source": anchor("source", experiment.source),
        "aligned": None if experiment.aligned is None else os.path.abspath(experiment.aligned),
    }
    return experiment.model_copy(update={**places, "evaluation": evaluation})


def portable(value: Any) -> Any:
    """What is read elsewhere, such as a model card, with paths of this machine reduced to their last names."""
    if isinstance(value, Mapping):
        return {key: portable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [portable(part) for part in value]
    place = PLACE.fullmatch(value) if isinstance(value, str) else None
    return (place["before"] or "") + Path(place["path"]).name if place else value


def data_of(given: str | Sequence[str] | Mapping[str, Any] | None) -> Data | None:
    """Data sets without an experiment: a name, names or a table. Raises UserError, as for a URL with a secret."""
    if not given:
        return None
    try:
        return Data.model_validate(given)
    except ValidationError as error:
        raise UserError(explain(error, Data, "data")) from None


def to_table(experiment: Experiment) -> dict[str, Any]:
    """A plain table that `resolve` reads back to the same experiment."""
    return experiment.model_dump(exclude_none=True)


def read_experiment(path: Path) -> Experiment:
    """The experiment that a run directory keeps. Raises UserError where there is none."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return resolve(moved.renamed(table) if isinstance(table, dict) else table)
    except (OSError, ValueError) as error:  # no JSON, or no UTF-8
        raise UserError(f"{path} is not a readable run configuration ({error}); give a run directory") from None
