"""Losses and scores over kimg, drawn with matplotlib's objects: no pyplot, no global state.

Lines are labelled at their right end in their own colour, so that no legend is needed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from hmgan.evaluation.score import MEAN
from hmgan.files import write_atomically
from hmgan.metrics.measures import arrow, better
from hmgan.report.document import Picture

WIDTH = 900  # CSS pixels that a figure is drawn for
INCH, DENSITY = 100, 2  # CSS pixels per inch; image pixels per CSS pixel
ROW_HEIGHT = 3.1  # inches per row of panels
PANEL_FRAME = 0.85  # inches of it that title and axis take, and a little more
FONT = 9.0  # points
LABEL_GAP = 1.15  # of the font's size, from one label to the next
NAME = 16  # characters of a label that are shown
MARKED = 40  # a line of at most so many points shows each
# From a name to its line. Without patchA it would stop at a wide frame around the name, and miss its middle.
THREAD = {"arrowstyle": "-", "linewidth": 0.9, "relpos": (0, 0.5), "patchA": None, "shrinkA": 2, "shrinkB": 3}

# Panels of the loss figure, in order: title, and stats key -> label. One is drawn if any of its keys is there.
LOSSES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("Losses", {"loss/G": "G", "loss/D": "D"}),
    ("Mean score that D gives", {"score/real": "real", "score/fake": "fake"}),
    ("R1 penalty", {"loss/r1": "R1"}),
    ("Contrastive loss", {"loss/contrastive": "contrastive"}),
    ("Self-alignment loss", {"loss/align": "align"}),
)


class Ink(NamedTuple):
    """The colours of one theme. Lines are Okabe and Ito's, told apart with any colour vision, brighter on dark."""

    paper: str
    text: str
    faint: str
    lines: tuple[str, ...]


LIGHT = Ink("#ffffff", "#1c1e21", "#dfe1e5", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"))
DARK = Ink("#1b1e23", "#e6e8eb", "#363b43", ("#4a9fdb", "#f0803c", "#1fc498", "#e59cc6", "#f2b53a", "#9ad4f5"))


class Line(NamedTuple):
    """A curve, and the name at its right end."""

    label: str
    points: list[tuple[float, float]]  # (kimg, value)
    strong: bool = False
    band: Sequence[tuple[float, float, float]] = ()  # (kimg, low, high), shaded


def loss_curves(stats: Sequence[Mapping[str, Any]], ink: Ink = LIGHT) -> Figure:
    """Losses and D's scores over kimg.

    Args:
        stats: the lines of stats.jsonl. A key that only some lines have is drawn through those.

    Raises: ValueError if no line has a loss or a score.
    """
    panels = []
    for title, keys in LOSSES:
        lines = [line for key, label in keys.items() if (line := Line(label, _points(stats, key))).points]
        if lines:
            # Two lines of one panel may differ in sign and size for good reasons; only a lone one is worth a log axis.
            panels.append((title, lines, len(lines) == 1))
    if not panels:
        raise ValueError(f"stats must hold a loss or a score, got {len(stats)} lines without one")
    return _figure(panels, ink)


def score_curves(metrics: Sequence[Mapping[str, Any]], ink: Ink = LIGHT) -> Figure:
    """One panel per metric: a line per class and their mean, bold. Log where the values span more than a decade.

    Args:
        metrics: the lines of metrics.jsonl.

    Raises: ValueError without any line.
    """
    if not metrics:
        raise ValueError("metrics must hold at least one line, got none")
    panels = []
    for metric in dict.fromkeys(line["metric"] for line in metrics):
        own = [line for line in metrics if line["metric"] == metric]
        classes = sorted(dict.fromkeys(line["class"] for line in own), key=lambda cls: cls == MEAN)  # the mean on top
        lines = [Line(cls, _points([x for x in own if x["class"] == cls], "value"), cls == MEAN) for cls in classes]
        panels.append((panel_title(metric), lines, True))
    return _figure(panels, ink)


def banded_curves(panels: Sequence[tuple[str, Sequence[Line]]], ink: Ink = LIGHT) -> Figure:
    """A panel per title, its lines each with a band; as tall as the names at their ends need.

    Raises: ValueError without any panel.
    """
    if not panels:
        raise ValueError("panels must hold at least one, got none")
    most = max(len(lines) for _, lines in panels)
    height = max(ROW_HEIGHT, PANEL_FRAME + most * FONT * LABEL_GAP / 72)
    return _figure([(title, lines, True) for title, lines in panels], ink, height)


def panel_title(metric: str) -> str:
    """The metric, and which way is better."""
    return f"{metric} {arrow(metric)} {better(metric)} is better"


def save_both(draw: Callable[[Ink], Figure], folder: Path, name: str, caption: str, alt: str) -> Picture:
    """Saves a figure in `folder`, drawn once for light and once for dark pages."""
    light, dark = f"{name}.png", f"{name}-dark.png"
    save_figure(draw(LIGHT), folder / light)
    save_figure(draw(DARK), folder / dark)
    return Picture(light, caption, alt, width=WIDTH, dark=dark)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG of twice the CSS pixels, all or nothing. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes, which says enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        # Without the Software entry, equal figures are equal files.
        options: dict[str, Any] = {"format": "png", "dpi": INCH * DENSITY, "metadata": {"Software": None}}
        write_atomically(path, lambda part: figure.savefig(part, **options))


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] moved apart, as little as can be, to at least `gap`, in their order; for the labels of lines.

    Where they do not fit they stick out equally at both ends.
    """
    from scipy.optimize import isotonic_regression  # here, because it takes a while to import

    order, steps = np.argsort(heights, kind="stable"), gap * np.arange(len(heights))
    room = 1 - steps[-1]
    low, high = (0.0, room) if room >= 0 else (room / 2, room / 2)
    # Less its share of the gaps, a height need only be no lower than the one before it.
    moved = np.empty(len(heights))
    moved[order] = np.clip(isotonic_regression(np.asarray(heights)[order] - steps).x, low, high) + steps
    return moved.tolist()


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(kimg, value) of the rows that have a finite one."""
    return [(row["kimg"], row[key]) for row in rows if key in row and math.isfinite(row[key])]


def _figure(panels: Sequence[tuple[str, Sequence[Line], bool]], ink: Ink, height: float = ROW_HEIGHT) -> Figure:
    """Panels side by side, two or three to a row; the third item allows a log axis. Height is inches per row."""
    columns = len(panels) if len(panels) < 4 else 2 + len(panels) % 2
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH / INCH, height * rows), facecolor=ink.paper)
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.1, wspace=0.02, hspace=0.06)
    last = max((kimg for _, lines, _ in panels for line in lines for kimg, _ in line.points), default=0.0)
    for i, (title, lines, may_log) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        _style(axes, title, ink)
        axes.set_xlim(0, last or 1.0)
        _draw(axes, [line for line in lines if line.points], may_log, ink, height)
    return figure


def _style(axes: Axes, title: str, ink: Ink) -> None:
    axes.set_facecolor(ink.paper)
    axes.set_title(title, loc="left", fontsize=FONT + 1.5, color=ink.text, fontweight="bold", pad=10, parse_math=False)
    axes.set_xlabel("kimg", fontsize=FONT, color=ink.text)
    axes.tick_params(length=0, labelsize=FONT, labelcolor=ink.text, pad=5)
    axes.grid(axis="y", color=ink.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(ink.faint)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _draw(axes: Axes, lines: Sequence[Line], may_log: bool, ink: Ink, height: float) -> None:
    """The lines, the scale of y, and the labels at the lines' ends."""
    if not lines:
        return
    values = [value for line in lines for _, value in line.points]
    if may_log and min(values) > 0 and max(values) > 10 * min(values):
        _log_scale(axes, values)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    styles = [_line_style(line, i, ink) for i, line in enumerate(lines)]
    for line, style in zip(lines, styles, strict=True):
        marker = "o" if len(line.points) <= MARKED else None
        axes.plot(*zip(*line.points, strict=True), clip_on=False, marker=marker, **style)
        if line.band:
            kimg, low, high = zip(*line.band, strict=True)
            axes.fill_between(kimg, low, high, color=style["color"], alpha=0.16, linewidth=0, zorder=2)
    if len(lines) > 1:  # the title names a lone one
        _label_ends(axes, lines, [style["color"] for style in styles], ink, height)


def _line_style(line: Line, i: int, ink: Ink) -> dict[str, Any]:
    """Bold ink for the mean; for the others a colour, and dashes once the colours repeat."""
    if line.strong:
        return {"color": ink.text, "linewidth": 2.8, "markersize": 4.0, "zorder": 4}
    dashes = ("-", (0, (4, 1.6)), (0, (1.2, 1.2)))
    lap, colour = divmod(i, len(ink.lines))
    style = {"linestyle": dashes[lap % len(dashes)], "linewidth": 1.5, "markersize": 2.6, "zorder": 3}
    return {"color": ink.lines[colour], "solid_joinstyle": "round", **style}


def _log_scale(axes: Axes, values: Sequence[float]) -> None:
    """Log y between whole numbers of a step, ticked at 1, 2, 5 (or at decades, if there are many) in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.15, max(values) * 1.15)
    decades = math.log10(max(values) / min(values))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _label_ends(axes: Axes, lines: Sequence[Line], colors: Sequence[str], ink: Ink, height: float) -> None:
    """Names beside the last points, moved apart where they would touch, each with a thread back to its line."""
    axes.get_ylim()  # settles the limits, which matplotlib otherwise leaves until it draws
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform(line.points[-1]) for line in lines]
    # The plot's own height is known only after layout; this is what title and axis leave of a row, a little less.
    gap = FONT * LABEL_GAP / 72 / (height - PANEL_FRAME)
    for line, color, end, y in zip(lines, colors, ends, spread([float(y) for _, y in ends], gap), strict=True):
        name = line.label if len(line.label) <= NAME else f"{line.label[: NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        # Halfway to the text's colour: what is bright enough for a line is not for letters.
        legible = tuple((a + b) / 2 for a, b in zip(to_rgb(color), to_rgb(ink.text), strict=True))
        axes.annotate(
            name,
            xy=(float(end[0]), float(end[1])),
            xycoords="axes fraction",
            xytext=(1.06, y),
            textcoords="axes fraction",
            color=legible,
            fontsize=FONT,
            fontweight="bold" if line.strong else "normal",
            va="center",
            parse_math=False,
            annotation_clip=False,
            arrowprops={"color": color, **THREAD},
        )
