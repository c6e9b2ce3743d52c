"""Labels as data sets write them: those that are missing or odd never become a class."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hmgan.errors import UserError
from hmgan.types import UNLABELLED


def label_text(value: object) -> str | None:
    """The label as text; None for one that is missing (empty, negative, not a number) or of no plain type."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None  # tables with gaps make floats of whole numbers
    if not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return None if not text or re.fullmatch(r"-\d+(\.0*)?", text) or text.lower() == "nan" else text


def labelled(found: Iterable[tuple[str, object]], place: object, names: Sequence[str] = ()) -> list[str]:
    """The labels of images, given as pairs of a key and a label.

    Args:
        names: of the classes 0, 1, ...; empty: labels are names themselves.

    Raises: UserError, with their number and the first one, if some have no label or one that has no name.
    """
    texts = [(key, raw, label_text(raw)) for key, raw in found]
    if without := [f"{key} ({raw!r:.40})" for key, raw, text in texts if text is None]:
        raise UserError(
            f"{len(without)} of {len(texts)} images in {place} have no label, such as {without[0]}; "
            "label them or leave them out"
        )
    if not names:
        return [text for _, _, text in texts if text]
    named = {str(i): name for i, name in enumerate(names)}
    if odd := [f"{key} ({text})" for key, _, text in texts if text not in named]:
        raise UserError(
            f"{len(odd)} of {len(texts)} images in {place} have a label that is none of 0..{len(names) - 1}, such as "
            f"{odd[0]}; mend it"
        )
    return [named[text] for _, _, text in texts if text]


def labelled_or_one_class(found: Sequence[tuple[str, str | None]], place: object, names: Sequence[str]) -> list[str]:
    """As `labelled`; images of which none has a label are of one class, "all"."""
    if not names and all(label is None for _, label in found):
        return [UNLABELLED] * len(found)
    return labelled(found, place, names)
