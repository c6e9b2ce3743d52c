"""The model card of a snapshot: what it is, from what it was made, and how it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hmgan.files import write_atomically
from hmgan.metrics.evaluate import Score


def write_card(folder: Path, title: str, facts: Mapping[str, str], scores: Sequence[Score], use: str) -> None:
    """README.md of a model folder, in the layout that model hubs show.

    Args:
        facts: what a reader must know, in order, such as {"Source": ..., "Data": ..., "Seed": ...}.
        scores: the snapshot's own; none leaves the section out.
        use: one command that draws images with it.
    """
    lines = ["---", "library_name: hmgan", "tags: [gan, image-generation]", "---", "", f"# {title}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    if scores:
        first = scores[0]
        lines += [
            "## Scores",
            "",
            "| metric | class | value | real | fake |",
            "|---|---|--:|--:|--:|",
            *(f"| {s.metric} | {s.cls} | {s.value:.4g} | {s.n_real} | {s.n_fake} |" for s in scores),
            "",
            f"Extractor {first.extractor}, sha256 {first.digest}, resized {first.resizer}. Lower is better; comparable",
            "only with scores of the same extractor, resizer and counts. This is not FID.",
            "",
        ]
    lines += ["## Use", "", "```", use, "```", ""]
    write_atomically(folder / "README.md", lambda path: path.write_text("\n".join(lines)))
