"""Components registered in code: a kind, a name, and a class whose keyword-only signature is its schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from hmgan.errors import UserError, explain, unknown

T = TypeVar("T")
ENTRY_POINTS = "hmgan.components"
# Where the built-in components live; importing a module registers what it defines.
MODULES = (
    "hmgan.augment.ada",
    "hmgan.augment.diffaugment",
    "hmgan.backbones.biggan",
    "hmgan.backbones.gan_memory_resnet",
    "hmgan.backbones.stylegan1",
    "hmgan.discriminators.biggan",
    "hmgan.discriminators.gan_memory_resnet",
    "hmgan.discriminators.heads",
    "hmgan.discriminators.stylegan1",
    "hmgan.modulation.adafm",
    "hmgan.modulation.adain",
    "hmgan.modulation.cgan_transfer",
    "hmgan.modulation.cgan_transfer_port",
    "hmgan.modulation.class_nets",
    "hmgan.modulation.label_to_z",
    "hmgan.modulation.scale_shift",
    "hmgan.losses.adversarial",
    "hmgan.losses.barlow_twins",
    "hmgan.losses.cdc",
    "hmgan.losses.dcl",
    "hmgan.losses.ewc",
    "hmgan.losses.feature_nets",
    "hmgan.losses.lecam",
    "hmgan.train.engines.fsdp2",
    "hmgan.train.engines.replicated",
    "hmgan.train.engines.zero",
    "hmgan.train.tasks.alignment",
    "hmgan.train.tasks.anchors",
    "hmgan.train.tasks.gan",
    "hmgan.train.tasks.players",
    "hmgan.train.tasks.reconstruction",
)
_REGISTRY: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator. Raises ValueError where the name is taken: nothing is overwritten silently."""

    def add(component: type[T]) -> type[T]:
        if (kind, name) in _REGISTRY:
            raise ValueError(f"{kind} {name!r} is registered already, by {_REGISTRY[kind, name].__module__}")
        _REGISTRY[kind, name] = component
        return component

    return add


@cache
def _load() -> None:
    for module in MODULES:
        import_module(module)
    for point in entry_points(group=ENTRY_POINTS):
        point.load()


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted."""
    _load()
    return sorted(name for k, name in _REGISTRY if k == kind)


def get(kind: str, name: str) -> type:
    """The class of a component. Raises UserError with the nearest spelling."""
    _load()
    try:
        return _REGISTRY[kind, name]
    except KeyError:
        raise unknown(kind, name, names(kind)) from None


@cache
def schema(kind: str, name: str) -> type[BaseModel]:
    """A strict model of the component's keyword-only arguments."""
    component = get(kind, name)
    init = component.__init__  # type: ignore[misc]
    hints = get_type_hints(init, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(init).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
    return create_model(
        f"{kind} {name}", __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields
    )


def check(kind: str, name: str, options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """All options of a component, defaults filled in. Raises UserError for a wrong name, key, type or value."""
    model = schema(kind, name)
    try:
        return model.model_validate(dict(options)).model_dump()
    except ValidationError as error:
        raise UserError(explain(error, model, where or kind)) from None


def defaults(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A component's options for display: those given, and the defaults of the others that have one."""
    fields = schema(kind, name).model_fields.items()
    return {**{key: field.default for key, field in fields if not field.is_required()}, **options}


def build(kind: str, name: str, *parts: Any, **options: Any) -> Any:
    """Constructs a component from its parts (positional) and checked options (keyword-only)."""
    return get(kind, name)(*parts, **check(kind, name, options))
