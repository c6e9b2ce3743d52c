"""The seeds of pictures and studies, as the command line writes them."""

from __future__ import annotations

import re

from hmgan.errors import UserError


def parse_seeds(text: str) -> list[int]:
    """`0,1,4-6` -> [0, 1, 4, 5, 6]. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--seeds wants numbers and ranges such as 0,1,4-6, got {text!r}")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    return seeds
