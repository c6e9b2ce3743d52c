"""The pictures of a study's report: curves over kimg with a band over seeds, and a grid per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from hmgan.metrics import measures
from hmgan.report import curves
from hmgan.report.document import PAGE, Picture
from hmgan.report.images import save_png
from hmgan.report.transfer import newest_fakes
from hmgan.study import scores
from hmgan.study.entry import Study
from hmgan.study.scores import Result
from hmgan.study.statistics import deviation, mean

FOLDER = "pictures"
PANELS = 4  # metrics that are drawn at most


def pictures(study: Study, found: Sequence[Result], target: str, outdir: Path) -> list[Picture]:
    """Curves, real images, and the images of every row's first seed, all below `outdir`."""
    if not found:
        return []
    shown = _curves(study, found, target, outdir)
    first = found[0]
    shown += _copied(first.run / "reals.png", outdir, f"{target}-reals", "Real images, a row per class.")
    for row in study.rows:
        its = [result for result in found if result.row == row.name]
        newest = newest_fakes(its[0].run) if its else None
        if newest is None:
            continue
        caption = (
            f"{row.name}, seed {its[0].seed}, after {its[0].kimg:g} kimg: a row per class. "
            "Along a column z and noise are the same, in this and in the other rows' pictures."
        )
        shown += _copied(its[0].run / newest, outdir, f"{target}-{row.name}", caption)
    return shown


def _curves(study: Study, found: Sequence[Result], target: str, outdir: Path) -> list[Picture]:
    """Quality against kimg, a panel per metric and a line per row."""
    panels = []
    for metric in scores.metrics(found)[:PANELS]:
        lines = [line for row in study.rows if (line := _line(found, target, row.name, metric)).points]
        panels.append((f"{metric} {measures.arrow(metric)} {measures.better(metric)} is better", lines))
    if not panels or max(len(line.points) for _, lines in panels for line in lines) < 2:
        return []
    names = (f"{FOLDER}/{target}-curves.png", f"{FOLDER}/{target}-curves-dark.png")
    for name, ink in zip(names, (curves.LIGHT, curves.DARK), strict=True):
        curves.save_figure(curves.banded_curves(panels, ink=ink), outdir / name)
    caption = "Means over classes and seeds at the snapshots; the band is one sample standard deviation of the seeds."
    return [Picture(names[0], caption, f"Scores of {target} over kimg", width=curves.WIDTH, dark=names[1])]


def _line(found: Sequence[Result], target: str, row: str, metric: str) -> curves.Line:
    values = scores.curve(found, target, row, metric)
    spreads = {kimg: deviation(v) for kimg, v in values.items()}
    band = [(kimg, mean(values[kimg]) - s, mean(values[kimg]) + s) for kimg, s in spreads.items() if s is not None]
    return curves.Line(row, [(kimg, mean(v)) for kimg, v in values.items()], band=band)


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
