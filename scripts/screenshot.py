"""A picture of a terminal of 80 columns, in which a command runs: tmux's screen, drawn as SVG.

    python scripts/screenshot.py docs/terminal/list.svg "hmgan list studies"
    python scripts/screenshot.py --until "sec/kimg" docs/terminal/train.svg "hmgan train demo --kimg 1"

It is taken when the text of --until is on the screen, or else when the command has ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 24
SESSION, ENDED = f"screenshot-{os.getpid()}", "-- ended --"


def tmux(*words: str) -> str:
    return subprocess.run(["tmux", *words], capture_output=True, text=True, check=True).stdout


def screen(command: str, until: str, seconds: float) -> str:
    """The screen with its colours, once `until` stands on it. Ends the command."""
    tmux(
        "new-session",
        "-d",
        "-s",
        SESSION,
        "-x",
        str(COLUMNS),
        "-y",
        str(ROWS),
        f"clear; {command}; echo; echo '{ENDED}'; cat",
    )
    try:
        deadline = time.monotonic() + seconds
        while until not in (plain := tmux("capture-pane", "-p", "-t", SESSION)):
            if time.monotonic() > deadline:
                raise SystemExit(f"{until!r} did not come within {seconds:.0f} s; the screen:\n{plain}")
            time.sleep(0.2)
        return tmux("capture-pane", "-p", "-e", "-t", SESSION).replace(ENDED, "").rstrip()
    finally:
        tmux("kill-session", "-t", SESSION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("command")
    parser.add_argument("--until", default=ENDED)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    text = screen(given.command, given.until, given.seconds)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(f"$ {given.command}\n{text}"), soft_wrap=True)
        given.picture.parent.mkdir(parents=True, exist_ok=True)
        console.save_svg(str(given.picture), title=f"{COLUMNS} columns")


if __name__ == "__main__":
    main()
