"""Durations and numbers of bytes as people read them."""

from __future__ import annotations

GIB, MIB, KIB = 2**30, 2**20, 2**10


def duration(seconds: float) -> str:
    """45s, 3m 24s, 1h 02m 03s."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}h {m:02d}m {s:02d}s"
    return f"{m}m {s:02d}s" if m else f"{s}s"


def size(count: float) -> str:
    """12 B, 2.0 KiB, 3.0 MiB, 2,500.0 GiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count:.0f} B"
