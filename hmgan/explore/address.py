"""An image's address, read into what decides it: every value of a query is known, bounded, and nothing else is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qs

from hmgan.errors import UserError
from hmgan.models.looks import CENTRES, LEVELS, NOISES, Look

LONGEST = 1000  # characters of a query
MOST_SEED = 2**31 - 1
MOST_CLASSES = 8  # of a blend
MOST_TRUNCATION = 2.0
KNOWN = ("model", "classes", "seeds", "trunc", "noise", "towards")

Known = TypeVar("Known", bound=str)


class Asked(NamedTuple):
    """A picture of one of the models; `look.seeds` are one for all, or one per level."""

    model: str  # its digest
    look: Look


def read(query: str) -> Asked:
    """`model=DIGEST&classes=0:0.5,2:0.5&seeds=1,1,7&trunc=0.8&noise=const`; without classes, of the source.

    `towards=class` truncates towards the class's own centre.

    Raises: UserError for anything else.
    """
    if len(query) > LONGEST:
        raise UserError(f"a query has at most {LONGEST} characters, got {len(query)}")
    given = parse_qs(query, keep_blank_values=True, max_num_fields=len(KNOWN))
    for name, values in given.items():
        if name not in KNOWN or len(values) > 1:
            raise UserError(f"a query has {', '.join(KNOWN)}, each once, got {name!r}")
    one = {name: values[0] for name, values in given.items()}
    seeds = tuple(_seed(text) for text in one.get("seeds", "0").split(","))
    if len(seeds) not in (1, len(LEVELS)):
        raise UserError(f"seeds are one, or one each for {', '.join(LEVELS)}, got {len(seeds)}")
    noise, towards = _one_of(NOISES, one, "noise"), _one_of(CENTRES, one, "towards")
    look = Look(seeds, _blend(one), _number(one, "trunc", 1.0, MOST_TRUNCATION), noise, towards)
    return Asked(one.get("model", ""), look)


def _one_of(known: Sequence[Known], given: Mapping[str, str], name: str) -> Known:
    """The first of them where none is given."""
    text = given.get(name, known[0])
    if text not in known:
        raise UserError(f"{name} is {', '.join(known)}, got {text!r}")
    return known[known.index(text)]


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MOST_SEED:
        raise UserError(f"a seed is a number from 0 to {MOST_SEED}, got {text!r}")
    return int(text)


def _number(given: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = given.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or float(text) > most:
        raise UserError(f"{name} is a number from 0 to {most:g}, got {text!r}")
    return float(text)


def _blend(given: Mapping[str, str]) -> tuple[tuple[int, float], ...]:
    """Labels and weights, which are scaled to add up to 1."""
    text = given.get("classes", "")
    if not text:
        return ()
    parts = [part.partition(":") for part in text.split(",")]
    if len(parts) > MOST_CLASSES or not all(re.fullmatch(r"[0-9]{1,7}", label) for label, _, _ in parts):
        raise UserError(f"classes are up to {MOST_CLASSES} of PLACE or PLACE:WEIGHT, got {text!r}")
    weights = [(int(label), _number({"weight": weight or "1"}, "weight", 1.0, 1.0)) for label, _, weight in parts]
    total = math.fsum(weight for _, weight in weights)
    if len({label for label, _ in weights}) < len(weights) or total <= 0:
        raise UserError(f"classes are named once each, with weights that are not all 0, got {text!r}")
    return tuple((label, weight / total) for label, weight in weights if weight > 0)
