"""How durations and bytes read."""

from __future__ import annotations

import pytest

from hmgan.units import GIB, MIB, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45.4, "45s"), (59.6, "1m 00s"), (204, "3m 24s"), (3723, "1h 02m 03s"), (90_000, "25h 00m 00s")],
)
def test_durations_are_hours_minutes_and_seconds_from_the_first_that_is_not_zero(seconds, text):
    assert duration(seconds) == text


def test_bytes_are_in_the_largest_unit_that_they_fill():
    assert [size(n) for n in (12, 2048, 3 * MIB, 2500 * GIB)] == ["12 B", "2.0 KiB", "3.0 MiB", "2,500.0 GiB"]
