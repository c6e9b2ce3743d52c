"""What a store tells of an object without giving its bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

# The names that stores have for these, in small letters alone.
TAGS = ("etag", "blobid")
TIMES = ("lastmodified", "mtime", "modified")
SETTLED = 2.0  # seconds


class Head(NamedTuple):
    """Bytes, and what changes with them; None where the store tells nothing that surely does."""

    size: int
    version: str | None


def head_of(told: Mapping[str, Any]) -> Head:
    """From what a client says, whatever it calls it."""
    facts = {re.sub("[^a-z]", "", key.lower()): value for key, value in told.items()}
    tags = (str(facts[tag]) for tag in TAGS if facts.get(tag))
    versions = [tag for tag in tags if not tag.startswith("W/")]  # a weak one may outlive a change
    versions += [version for name in TIMES if (version := _settled(facts.get(name)))]
    return Head(int(told["size"]), next(iter(versions), None))


def _settled(when: object) -> str | None:
    """The time of a change, unless it is in whole seconds and another change may still get the same."""
    seconds = when.timestamp() if isinstance(when, datetime) else when
    if not isinstance(seconds, int | float) or seconds <= 0:  # 1970 is what obstore says for none
        return None
    return None if seconds % 1 == 0 and time.time() - seconds < SETTLED else str(seconds)
