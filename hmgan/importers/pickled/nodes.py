"""What a pickle is made of besides plain values: inert records of what it would have imported, called and built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class UnreadableError(ValueError):
    """Why a file, or a part of it, cannot be read: what follows its name in an error, and what to do then."""

    def __init__(self, problem: str, advice: str = "download or save it again") -> None:
        super().__init__(problem)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle would have imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False, slots=True)
class Call:
    """An object that the pickle would have made by calling a global, and what it would have put into it."""

    function: Global
    args: tuple[Any, ...]
    state: Any = None
    pairs: dict[str | int, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(eq=False, repr=False, slots=True)
class Persistent:
    """A reference to data outside the pickle: in PyTorch's files, to a storage."""

    key: Any


@dataclass(eq=False, repr=False, slots=True)
class Blob:
    """Bytes, or the UTF-8 of a long text, where they lie in the file."""

    data: memoryview
    text: bool


def described(value: Any) -> str:
    """What a value is, in a word or two, for errors."""
    if isinstance(value, Call):
        return str(value.function)
    if isinstance(value, Global):
        return str(value)
    return {dict: "a dictionary", type(None): "nothing"}.get(type(value), f"a {type(value).__name__.lower()}")
