"""Commands of typer, made of the dataclasses that declare their options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from importlib import import_module
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def command(options: type[T], run: Callable[[T], object]) -> Callable[..., object]:
    """A function for `app.command()`: it collects its arguments in the dataclass, and calls `run` with that.

    Its parameters are the fields that are annotated for typer, in their order; its help is the dataclass's docstring.
    """

    def call(**given: Any) -> object:
        for name, value in given.items():
            if isinstance(value, float) and not math.isfinite(value):  # lies in bounds with one end
                raise typer.BadParameter(f"{value} is not a finite number.", param_hint=f"'--{name}'")
        # None stands for what was not given: the field has its own default.
        return run(options(**{name: value for name, value in given.items() if value is not None}))

    hints = get_type_hints(options, include_extras=True)
    parameters = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=shown(field), annotation=hints[field.name])
        for field in fields(options)
        if hasattr(hints[field.name], "__metadata__")
    ]
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__ = options.__doc__
    return call


def shown(field: Field[Any]) -> object:
    """The default that the help shows: none for a list, which is empty."""
    if field.default is not MISSING:
        return field.default
    return Parameter.empty if field.default_factory is MISSING else None


def lazy(function: str, *more: object, failed: Callable[[Any], bool] = lambda _: False) -> Callable[[Any], None]:
    """The function `module:name` of the options, imported when it is called, so that --help answers at once.

    Args:
        more: what it takes after the options.
        failed: of what it returns, whether the exit code is 1.
    """

    def call(options: Any) -> None:
        module, _, name = function.partition(":")
        if failed(getattr(import_module(module), name)(options, *more)):
            raise SystemExit(1)

    return call


def read(verb: str, options: type[T], words: Sequence[str]) -> T:
    """The options that `hmgan VERB WORDS` would run with. Runs nothing."""
    app = typer.Typer(add_completion=False)
    app.command()(command(options, lambda made: made))
    parser = typer.main.get_command(app)
    with parser.make_context(f"hmgan {verb}", list(words)) as context:
        made: T = parser.invoke(context)
    return made
