"""The model card of a snapshot: what it is, what it was made from, and how it scored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hmgan.errors import one_line
from hmgan.evaluation.score import Score
from hmgan.files import write_atomically
from hmgan.metrics import measures

MARKS = re.compile(r"[\\`|*\[\]]")
TEMPLATE = Path(__file__).with_name("card.md")
PIPELINE, TAGS = "unconditional-image-generation", ["gan", "image-generation"]


def plain(text: str) -> str:
    """Text that may come from data, which Markdown shows as it is: no table, code, link or HTML of its own."""
    return MARKS.sub(r"\\\g<0>", escape(one_line(text), quote=False))


def write_card(
    folder: Path, title: str, facts: Mapping[str, str], scores: Sequence[Score], use: str, licence: str = "other"
) -> None:
    """README.md of a model folder, in the layout that model hubs show.

    Args:
        facts: what a reader must know, in order, such as {"Source": ..., "Data": ..., "Seed": ...}.
        scores: the snapshot's own; none leaves the section out.
        use: commands that draw images with it, one a line.
        licence: as hubs abbreviate it; "other" where the facts say what it is.
    """
    networks = list(dict.fromkeys((s.extractor, s.digest, s.resizer) for s in scores))
    data = ModelCardData(license=licence, library_name="hmgan", pipeline_tag=PIPELINE, tags=TAGS)
    card = ModelCard.from_template(
        data,
        str(TEMPLATE),
        title=title,
        facts=facts,
        scores=scores,
        networks=networks,
        use=use,
        arrow=measures.arrow,
        plain=plain,
    )
    write_atomically(folder / "README.md", card.save)
