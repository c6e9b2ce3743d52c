"""URLs of data, which must carry no secrets: they are kept in every run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hmgan.errors import UserError, redacted

T = TypeVar("T")


def is_url(name: str) -> bool:
    """Whether a name is a URL, not a path or a registry entry."""
    return "://" in name


def checked(value: T) -> T:
    """The value. Raises UserError, which does not repeat it, for a URL with a password or a token anywhere in it."""
    if isinstance(value, str):
        if (bare := redacted(value)) != value:
            raise UserError(
                f"a URL of data must hold no user, password or query, got one before or after {bare}; "
                "put credentials into the environment, such as AWS_ACCESS_KEY_ID"
            )
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            checked(part)
    return value
