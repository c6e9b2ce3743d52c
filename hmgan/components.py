"""Components registered in code: a kind, a name, and a class whose keyword-only signature is its schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from hmgan import signatures
from hmgan.errors import UserError, explain, unknown

if TYPE_CHECKING:  # pydantic takes longer to import than `hmgan list` to print
    from pydantic import BaseModel

T = TypeVar("T")
LARGEST = 2**63 - 1
ENTRY_POINTS = "hmgan.components"
# Where the built-in components live: they are described by their source, and imported only by `get`.
FOLDERS = ("augment", "backbones", "discriminators", "modulation", "losses", "train/engines", "train/tasks")
_REGISTRY: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator. Raises ValueError where the name is taken: nothing is overwritten silently."""

    def add(component: type[T]) -> type[T]:
        taken = _REGISTRY[kind, name].__module__ if (kind, name) in _REGISTRY else None
        own = component.__module__.split(".")[0] == signatures.PACKAGE
        if not own and (kind, name) in _builtin():
            taken = _builtin()[kind, name].module
        if taken:
            raise ValueError(f"{kind} {name!r} is registered already, by {taken}")
        _REGISTRY[kind, name] = component
        return component

    return add


@cache
def _builtin() -> dict[tuple[str, str], signatures.Registered]:
    modules = [module for folder in FOLDERS for module in signatures.modules(folder)]
    return {(found.kind, found.name): found for module in modules for found in signatures.registered(module)}


@cache
def _load() -> None:
    """Imports what other packages register: their entry points do not name the components."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        point.load()


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted."""
    _load()
    return sorted({name for k, name in (*_builtin(), *_REGISTRY) if k == kind})


def get(kind: str, name: str) -> type:
    """The class of a component. Raises UserError with the nearest spelling."""
    _load()
    if found := _builtin().get((kind, name)):
        component: type = getattr(import_module(found.module), found.cls)
        return component
    try:
        return _REGISTRY[kind, name]
    except KeyError:
        raise unknown(kind, name, names(kind)) from None


def summary(kind: str, name: str) -> str:
    """The first line of a component's docstring."""
    found = _builtin().get((kind, name))
    return signatures.first_line(found.module, found.cls) if found else _signature(kind, name).doc.split("\n")[0]


def declared(kind: str, name: str, attribute: str) -> Mapping[str, str]:
    """A table that a component's class declares, such as `needs` and `excludes`; empty where it declares none."""
    found = _builtin().get((kind, name))
    if found:
        return signatures.declared(found.module, found.cls, attribute)
    return getattr(get(kind, name), attribute, {})


def _signature(kind: str, name: str) -> signatures.Signature:
    found = _builtin().get((kind, name))
    return signatures.read(found.module, found.cls) if found else signatures.inspected(get(kind, name))


@cache
def schema(kind: str, name: str) -> type[BaseModel]:
    """A strict model of the component's keyword-only arguments, described as its docstring does."""
    from pydantic import ConfigDict, Field, create_model

    fields: dict[str, Any] = {}
    for key, (annotation, default, sentence) in _signature(kind, name).options.items():
        given = ... if default is signatures.REQUIRED else default
        fields[key] = (annotation, Field(given, description=sentence or None))
    return create_model(
        f"{kind} {name}", __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields
    )


def bounded(value: Any, where: str = "") -> None:
    """Raises UserError, naming it, for a number in a table that is beyond what torch's own numbers hold."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            bounded(part, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            bounded(part, where)
    elif isinstance(value, int | float) and LARGEST < abs(value) < inf:
        raise UserError(f"{where} must lie in -{LARGEST}..{LARGEST}, got {value}; give a smaller number")


def check(kind: str, name: str, options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """All options of a component, defaults filled in. Raises UserError for a wrong name, key, type or value."""
    from pydantic import ValidationError

    model = schema(kind, name)
    bounded(options, where or kind)
    try:
        return model.model_validate(dict(options)).model_dump()
    except ValidationError as error:
        raise UserError(explain(error, model, where or kind)) from None


def build(kind: str, name: str, /, *parts: Any, **options: Any) -> Any:
    """Constructs a component from its parts (positional) and checked options (keyword-only)."""
    return get(kind, name)(*parts, **check(kind, name, options))
