"""Whether a source varies enough to be transferred: its styles' rank, noise and truncation."""

from __future__ import annotations

from pathlib import Path

from hmgan.config import entries
from hmgan.doctor.probe import ProbeResult
from hmgan.evaluation.styles import TRUNCATED, Varied, varied
from hmgan.generators.source import CONFIG, load_source

# A transfer whose mapping is frozen varies within a class along the source's directions alone. A mapping of 64 numbers
# has a rank of 20 to 25 before it is trained; one that had fallen to 3 left its source with a recall of 0.04.
FEWEST = 15.0
LEAST_NOISE, LEAST_CUT = 1.0, 0.05  # grey levels; share of the difference that truncation must take


def is_source(name: str) -> bool:
    """Whether that is a source's name or folder, and no experiment's."""
    return name in entries.entries("source") or (Path(name) / CONFIG).is_file()


def source(name: str) -> ProbeResult:
    """The section of one source. Raises UserError where there is none."""
    return told(name, varied(load_source(name).backbone))


def told(name: str, found: Varied) -> ProbeResult:
    """What was measured, and what of it limits a transfer."""
    cut = 1 - found.truncated / found.images if found.images else 0.0
    rows = [
        ("source", name),
        ("rank of w", f"{found.rank:.1f} of {found.width} (participation ratio of its covariance)"),
        ("z", f"images differ by {found.images:.1f} grey levels"),
        ("noise", f"alone it moves an image by {found.noise:.1f} grey levels"),
        ("truncation", f"{TRUNCATED:g} takes {100 * cut:.0f}% of the difference between images"),
    ]
    problems = []
    fewest = min(FEWEST, found.width / 4)  # of narrow styles fewer are wanted
    if found.rank < fewest:
        problems.append(
            f"w varies in {found.rank:.1f} directions, fewer than {fewest:g}, so that every class will repeat the same "
            "few styles; train the mapping as well (train.source), or pretrain a source with optimizer.mapping_mult "
            "below 0.1 or fewer backbone.mapping_layers"
        )
    if found.noise < LEAST_NOISE:
        problems.append(
            f"noise moves images by {found.noise:.2f} grey levels, so that w alone tells two of them apart; let the "
            "noise strengths train (train.source)"
        )
    if cut < LEAST_CUT:
        problems.append(
            f"truncation takes {100 * cut:.0f}% of the variation, so that --trunc will show nothing; see the rank of w"
        )
    return ProbeResult("source", rows, problems)
