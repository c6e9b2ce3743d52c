"""What is shown while images are packed."""

from __future__ import annotations

from hmgan.data.pack.progress import busy, counting


def test_a_name_in_brackets_is_shown_as_it_is() -> None:
    with busy("reading [/]"):
        pass
    with counting("writing [/]", 2) as done:
        done()
