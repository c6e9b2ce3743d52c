"""From a dataclass of options to a command of typer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from importlib import import_module
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def command(options: type[T], run: Callable[[T], object]) -> Callable[..., object]:
    """A function for `app.command()` that makes the options of its arguments, and runs with them.

    Its parameters are the fields annotated for typer, in their order, and its help is the dataclass's docstring.
    """

    def call(**given: Any) -> object:
        # None is what was not given, for which a field has its own default.
        return run(options(**{name: value for name, value in given.items() if value is not None}))

    hints = get_type_hints(options, include_extras=True)
    parameters = []
    for field in fields(options):
        if hasattr(hints[field.name], "__metadata__"):
            required = field.default is MISSING and field.default_factory is MISSING
            usual = Parameter.empty if required else None if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=usual, annotation=hints[field.name])
            )
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__ = options.__doc__
    return call


def later(function: str, failed: Callable[[Any], bool] = lambda _: False) -> Callable[[Any], None]:
    """The function `module:name`, imported when it is called, so that --help answers at once.

    Args:
        function: takes the options.
        failed: whether the exit code is 1, by what the function returns.
    """

    def call(options: Any) -> None:
        module, _, name = function.partition(":")
        if failed(getattr(import_module(module), name)(options)):
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
