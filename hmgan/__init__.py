"""hmgan: class-conditional GANs from unconditional ones, by hyper-modulation. What is public: docs/python.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmgan.components import register
    from hmgan.models.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "register"]

# Imported when they are asked for: `load` needs torch, and --help does not.
_HOMES = {
    "Model": ("hmgan.models.model", "Model"),
    "load": ("hmgan.models.model", "load"),
    "register": ("hmgan.components", "register"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
