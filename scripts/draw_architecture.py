"""Draws the rooms of the package on their storeys: docs/architecture.svg, from the imports themselves.

    python scripts/draw_architecture.py                                    # docs/architecture.svg, of this tree
    python scripts/draw_architecture.py --title Before TREE before.svg     # of another checkout

A room is a folder or a loose module of hmgan/, an arrow at least one import between two. A storey is one above the
highest that its rooms import from. Where rooms import each other in a circle, the fewest imports that break it are left
out first, and drawn in red: they run back up. Bold are the arrows that no way through other rooms says already.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Annotated, NamedTuple

import grimp
import typer

ROOT = Path(__file__).parents[1]
WIDTH, PITCH, BOX, TOP, MARGIN = 540, 62, 34, 68, 14
FAINT = 0.5  # arrows of less opacity have no head
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, SOFT, PAPER, LINE, UP = "#1f2d3d", "#66788a", "#ffffff", "#7d93a8", "#d1495b"
FOLDER, LOOSE, EDGE = "#e8f0f7", "#ffffff", "#b4c5d5"

Arrow = tuple[str, str]


class House(NamedTuple):
    """What imports say of a package."""

    files: Mapping[str, int]  # of each room; a loose module is a room of none
    down: frozenset[Arrow]
    up: frozenset[Arrow]

    def storeys(self) -> list[list[str]]:
        """The rooms from the ground up, by name."""

        @cache
        def storey(room: str) -> int:
            return 1 + max((storey(below) for above, below in self.down if above == room), default=-1)

        rows: defaultdict[int, list[str]] = defaultdict(list)
        for room in sorted(self.files):
            rows[storey(room)].append(room)
        return [rows[i] for i in sorted(rows)]

    def bold(self) -> frozenset[Arrow]:
        """The arrows down that no way through other rooms says already."""
        below: defaultdict[str, set[str]] = defaultdict(set)
        for a, b in self.down:
            below[a].add(b)

        @cache
        def reached(room: str) -> frozenset[str]:
            return frozenset(below[room]).union(*(reached(each) for each in below[room]))

        return frozenset((a, b) for a, b in self.down if not any(b in reached(c) for c in below[a]))


def house(tree: Path) -> House:
    """The rooms of the hmgan package in a checkout, without imports for type checkers."""
    sys.path.insert(0, str(tree.resolve()))
    graph = grimp.build_graph("hmgan", exclude_type_checking_imports=True, cache_dir=None)
    broken = graph.nominate_cycle_breakers("hmgan")
    rooms = [child.split(".")[1] for child in graph.find_children("hmgan")]
    files = {room: len(graph.find_descendants(f"hmgan.{room}")) for room in rooms}
    arrows: dict[bool, set[Arrow]] = {False: set(), True: set()}
    for importer in graph.modules - {"hmgan"}:
        for imported in graph.find_modules_directly_imported_by(importer) - {"hmgan"}:
            arrow = importer.split(".")[1], imported.split(".")[1]
            if arrow[0] != arrow[1]:
                arrows[(importer, imported) in broken].add(arrow)
    return House(files, frozenset(arrows[False]), frozenset(arrows[True]))


def ordered(rows: Sequence[Sequence[str]], arrows: frozenset[Arrow]) -> list[list[str]]:
    """Each row so that rooms stand near those that they have to do with, and few arrows cross."""
    now = [list(row) for row in rows]
    for _ in range(24):
        at = {room: (i + 0.5) / len(row) for row in now for i, room in enumerate(row)}
        near: defaultdict[str, list[float]] = defaultdict(list)
        for a, b in sorted(arrows):
            near[a].append(at[b])
            near[b].append(at[a])
        now = [sorted(row, key=lambda r: (sum(near[r]) / len(near[r]) if near[r] else 0.5, r)) for row in now]
    return now


def drawn(house: House, title: str) -> str:
    """The house as SVG."""
    bold, rows = house.bold(), ordered(house.storeys(), house.bold())
    height = TOP + PITCH * len(rows) + MARGIN
    centre: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        y = height - MARGIN - PITCH * level - PITCH / 2
        free = WIDTH - 2 * MARGIN - 22 - sum(width(room) for room in row)
        x = MARGIN + 22 + free / (2 * len(row))
        for room in row:
            centre[room] = (x + width(room) / 2, y)
            x += width(room) + free / len(row)
    counts = f"{len(house.files)} rooms on {len(rows)} storeys, {len(house.down | house.up)} arrows"
    back = f"{len(house.up) or 'none'} of them back up"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="{FONT}" role="img" aria-label="{escape(f"{title}: {counts}, {back}")}">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{PAPER}"/>',
        text(MARGIN + 4, 32, title, 18, INK, weight=600),
        text(MARGIN + 4, 53, f"{counts}, ", 12, SOFT, tail=back, colour=UP if house.up else SOFT),
        *(floor(level, height) for level in range(len(rows))),
        *(curve(centre, arrow, LINE, 0.9, 0.18) for arrow in sorted(house.down - bold)),
        *(curve(centre, arrow, LINE, 1.4, 0.95) for arrow in sorted(bold)),
        *(curve(centre, arrow, UP, 1.5, 0.85) for arrow in sorted(house.up)),
        *(box(room, *centre[room], house.files[room]) for row in rows for room in row),
    ]
    return "\n".join([*parts, "</svg>", ""])


def width(room: str) -> float:
    return max(54, 7.4 * len(room) + 20)


def text(
    x: float, y: float, words: str, size: float, fill: str, weight: int = 400, anchor: str = "start",
    tail: str = "", colour: str = "",
) -> str:  # fmt: skip
    end = f'<tspan fill="{colour}">{escape(tail)}</tspan>' if tail else ""
    style = f'font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}{end}</text>'


def floor(level: int, height: int) -> str:
    """The line that a storey stands on, and its number."""
    y = height - MARGIN - PITCH * level
    line = f'<path d="M{MARGIN} {y}H{WIDTH - MARGIN}" stroke="{EDGE}" stroke-width="{0.5 if level else 1.5}"/>'
    return line + text(MARGIN + 12, y - PITCH / 2 + 4, str(level + 1), 11, SOFT, anchor="middle")


def curve(centre: Mapping[str, tuple[float, float]], arrow: Arrow, colour: str, stroke: float, opacity: float) -> str:
    """From one room to the other, with a head where it arrives."""
    (x1, y1), (x2, y2) = centre[arrow[0]], centre[arrow[1]]
    half = BOX / 2 if y2 > y1 else -BOX / 2
    y1, y2 = y1 + half, y2 - half
    bend = (y2 - y1) * 0.5
    path = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
    line = f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}" opacity="{opacity}"/>'
    if opacity < FAINT:
        return line
    back = y2 + (6 if y2 < y1 else -6)
    return line + f'<path d="M{x2 - 3:.1f} {back:.1f}h6L{x2:.1f} {y2:.1f}Z" fill="{colour}"/>'


def box(room: str, x: float, y: float, files: int) -> str:
    """A room by its name; a folder with its number of files."""
    wide, fill = width(room), FOLDER if files else LOOSE
    frame = (
        f'<rect x="{x - wide / 2:.1f}" y="{y - BOX / 2:.1f}" width="{wide:.1f}" height="{BOX}" rx="6" '
        f'fill="{fill}" stroke="{EDGE}"/>'
    )
    if not files:
        return frame + text(x, y + 4, room, 12, INK, anchor="middle")
    return (
        frame + text(x, y - 1, room, 12, INK, 600, "middle") + text(x, y + 11, f"{files} files", 9, SOFT, 400, "middle")
    )


def main(
    tree: Annotated[Path, typer.Argument()] = ROOT,
    out: Annotated[Path, typer.Argument()] = ROOT / "docs" / "architecture.svg",
    title: Annotated[str, typer.Option()] = "Now",
) -> None:
    out.write_text(drawn(house(tree), title), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
