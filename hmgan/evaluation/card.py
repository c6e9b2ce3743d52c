"""The model card of a snapshot: what it is, from what it was made, and how it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hmgan.evaluation.score import Score
from hmgan.files import write_atomically
from hmgan.metrics import measures


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
    front = [f"license: {licence}", "library_name: hmgan", "pipeline_tag: unconditional-image-generation"]
    lines = ["---", *front, "tags: [gan, image-generation]", "---", "", f"# {title}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    if scores:
        lines += [
            "## Scores",
            "",
            "| metric | class | value | real | fake |",
            "|---|---|--:|--:|--:|",
            *(f"| {_named(s.metric)} | {s.cls} | {s.value:.4g} | {s.n_real} | {s.n_fake} |" for s in scores),
            "",
            *dict.fromkeys(f"Network {s.extractor}, sha256 {s.digest}, images resized by {s.resizer}." for s in scores),
            "They can be compared only with scores of the same network, resizer and counts. FD and KD are not FID and",
            "KID, which are of an Inception network.",
            "",
        ]
    lines += ["## Use", "", "```", use, "```", ""]
    write_atomically(folder / "README.md", lambda path: path.write_text("\n".join(lines)))


def _named(metric: str) -> str:
    """A metric, and which way is better."""
    return f"{metric} {measures.arrow(metric)}"
