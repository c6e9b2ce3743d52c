"""The files of `launch/`, wherever hmgan is installed."""

from __future__ import annotations

from pathlib import Path


def shown(path: Path) -> str:
    """Relative where it lies below the working directory: shorter, and the same."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
