"""Labels as data sets write them: those that are missing or odd never become a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hmgan.types import UNLABELLED

NONE = "no label"


class Labels(NamedTuple):
    """A label for each image, None where there is none; and those images, each with what was there, by the reason."""

    texts: list[str | None]
    without: dict[str, list[str]]


def label_text(value: object) -> str | None:
    """The label as text; None for one that is missing (empty, negative, not a number) or of no plain type."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None  # tables with gaps make floats of whole numbers
    if not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return None if not text or re.fullmatch(r"-\d+(\.0*)?", text) or text.lower() == "nan" else text


def labels_of(found: Iterable[tuple[str, object]], names: Sequence[str] = ()) -> Labels:
    """The labels of images, given as pairs of a key and a label.

    Args:
        names: of the classes 0, 1, ...; empty: labels are names themselves.
    """
    texts: list[str | None] = []
    without: dict[str, list[str]] = {}
    named = {str(i): name for i, name in enumerate(names)}
    for key, raw in found:
        text = label_text(raw)
        if text is None:
            without.setdefault(NONE, []).append(f"{key} ({raw!r:.40})")
        elif names and text not in named:
            without.setdefault(f"a label that is none of 0..{len(names) - 1}", []).append(f"{key} ({text})")
            text = None
        texts.append(named.get(text or "", text))
    return Labels(texts, without)


def labels_or_one_class(found: Sequence[tuple[str, str | None]], names: Sequence[str]) -> Labels:
    """As `labels_of`; images of which none has a label are of one class, "all"."""
    if not names and all(label is None for _, label in found):
        return Labels([UNLABELLED] * len(found), {})
    return labels_of(found, names)
