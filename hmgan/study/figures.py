"""The pictures of a study's report: curves over kimg with a band over seeds, a grid per row, figures of single rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from PIL import Image

from hmgan.generators.snapshot import has_snapshot, load_generator
from hmgan.generators.transfer import TransferGenerator
from hmgan.pictures.images import save_png
from hmgan.pictures.strips import interpolation_strip, parts_sheet, style_grid
from hmgan.report import curves
from hmgan.report.document import PAGE, Picture
from hmgan.report.transfer import newest_fakes
from hmgan.study import scores
from hmgan.study.schema import Study
from hmgan.study.scores import Result
from hmgan.study.statistics import deviation

FOLDER = "pictures"
PANELS = 4  # metrics that are drawn at most
STYLES = tuple(range(10))  # seeds of the grid of classes by styles


class Drawn(NamedTuple):
    """How a figure of one row is drawn."""

    draw: Callable[[TransferGenerator, Sequence[str]], Image.Image]
    caption: str
    classes: int = 1  # at least so many


DRAWN = {
    "parts": Drawn(
        parts_sheet,
        "what gamma, beta and b of a class do, each alone, the others as in the source (the paper's Fig. 2). "
        "The columns of a block are draws of z and noise, the same in every row and block.",
    ),
    "between": Drawn(
        interpolation_strip,
        "from class to class, the class vector in straight lines from each class to the next (the paper's Fig. 3). "
        "A row per draw of z and noise, the same for every method.",
        classes=2,
    ),
    "styles": Drawn(
        partial(style_grid, seeds=STYLES),
        "classes by styles (the paper's Fig. 10): a row per class, a column per draw of z and noise.",
    ),
}


def pictures(study: Study, found: Sequence[Result], target: str, outdir: Path) -> list[Picture]:
    """Curves, real images, the images of every row's first seed, and the figures of single rows; below `outdir`."""
    if not found:
        return []
    shown = _curves(study, found, target, outdir)
    firsts = {result.row: result for result in reversed(found)}  # each row's first seed
    several = scores.several_classes(found)
    caption = "Real images, a row per class." if several else "Real images."
    shown += _copied(found[0].run / "reals.png", outdir, f"{target}-reals", caption)
    alike = "a row per class. Along a column" if several else "at any position"
    for row in (row.name for row in study.rows if row.name in firsts):
        newest = newest_fakes(firsts[row].run)
        if newest is not None:
            same = f"{alike} z and noise are the same, in this and in the other rows' pictures"
            shown += _copied(firsts[row].run / newest, outdir, f"{target}-{row}", f"{_which(firsts[row])}: {same}.")
    weighted = {result.row: result for result in reversed(found) if has_snapshot(result.run)}
    return shown + _of_single_rows(study, weighted, target, outdir)


def _of_single_rows(study: Study, firsts: Mapping[str, Result], target: str, outdir: Path) -> list[Picture]:
    """What the study's `figures` name, drawn by the newest snapshots of each row's first seed that has one left."""
    shown = []
    for figure, rows in study.figures.rows.items():
        for row in (row for row in rows if row in firsts):
            loaded, drawn = load_generator(firsts[row].run), DRAWN[figure]
            if loaded.transfer is not None and len(loaded.classes) >= drawn.classes:
                # No row's name has an underscore, so none of the rows' own pictures is called so.
                path = f"{FOLDER}/{target}-{row}_{figure}.png"
                save_png(drawn.draw(loaded.transfer, loaded.classes), outdir / path)
                caption = f"{_which(firsts[row])}: {drawn.caption}"
                shown.append(Picture(path, caption, caption))
    return shown


def _which(result: Result) -> str:
    return f"{result.row}, seed {result.seed}, after {result.kimg:g} kimg"


def _curves(study: Study, found: Sequence[Result], target: str, outdir: Path) -> list[Picture]:
    """Quality against kimg, a panel per metric and a line per row."""
    panels = []
    for metric in scores.metrics(found)[:PANELS]:
        lines = [line for row in study.rows if (line := _line(found, target, row.name, metric)).points]
        panels.append((curves.panel_title(metric), lines))
    if not panels or max(len(line.points) for _, lines in panels for line in lines) < 2:
        return []
    draw, name = partial(curves.banded_curves, panels), f"{FOLDER}/{target}-curves"
    caption = "Means over classes and seeds at the snapshots; the band is one sample standard deviation of the seeds."
    return [curves.save_both(draw, outdir, name, caption, f"Scores of {target} over kimg")]


def _line(found: Sequence[Result], target: str, row: str, metric: str) -> curves.Line:
    values = scores.curve(found, target, row, metric)
    means = {kimg: fmean(v) for kimg, v in values.items()}
    spreads = ((kimg, deviation(v)) for kimg, v in values.items())
    band = [(kimg, means[kimg] - s, means[kimg] + s) for kimg, s in spreads if s is not None]
    return curves.Line(row, list(means.items()), band=band)


def _copied(path: Path, outdir: Path, name: str, caption: str) -> list[Picture]:
    """A picture beside the report, no wider than its page; nothing where there is none."""
    if not path.is_file():
        return []
    with Image.open(path) as image:
        copy = image.convert("RGB")
    if copy.width > PAGE:
        copy = copy.resize((PAGE, round(copy.height * PAGE / copy.width)), Image.Resampling.LANCZOS)
    save_png(copy, outdir / FOLDER / f"{name}.png")
    return [Picture(f"{FOLDER}/{name}.png", caption, caption)]
