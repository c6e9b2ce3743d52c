"""What a probe of `hmgan doctor` finds: lines to show, and problems with what to do about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hmgan.units import size


@dataclass
class ProbeResult:
    """One section of the page.

    Args:
        rows: pairs of what was looked at and what was found.
        problems: one line each: what is wrong, and what to do.
    """

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def rate(count: float, seconds: float) -> str:
    """Bytes per second, as people read them."""
    return f"{size(count / max(seconds, 1e-9))}/s"
