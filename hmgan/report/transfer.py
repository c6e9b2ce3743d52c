"""The report of a transfer run: what was done, what came out, and what the numbers are worth."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from hmgan.evaluation.score import MEAN, Score
from hmgan.report import curves
from hmgan.report.document import Command, Picture, Report, Section, write_report
from hmgan.report.scores import (
    ARROW,
    check_comparable,
    meaning_section,
    number_format,
    pairs,
    read_lines,
    scores_section,
)
from hmgan.units import duration


class Transfer(NamedTuple):
    """What was trained, in the words that its report uses."""

    source: str  # "fashion-32, a StyleGAN of clothing"
    classes: tuple[str, ...]
    data: str  # "fashion-close"
    method: str  # "Hyper-Mod C"
    kimg: float  # thousands of real images shown
    minutes: float  # wall clock
    command: str  # what the reader types to do the same
    run: str  # the run directory as the reader would type it


class Pictures(NamedTuple):
    """File names in the report's folder. What is not there is left out of the report."""

    source: str = "source.png"
    reals: str = "reals.png"
    before: str = "fakes_init.png"
    after: str | None = None  # left out: the newest fakes<kimg>.png
    styles: str = "styles.png"
    interpolation: str = "interpolation.png"


FOUND = Pictures()


def transfer_report(
    folder: Path,
    *,
    title: str,
    transfer: Transfer,
    before: Sequence[Score],
    after: Sequence[Score],
    facts: Mapping[str, str] | None = None,
    pictures: Pictures = FOUND,
    next_steps: Sequence[Command] | None = None,
) -> None:
    """Writes REPORT.md and report.html into a run directory, from the files there.

    Args:
        folder: holds the pictures and, if curves are wanted, stats.jsonl and metrics.jsonl.
        before, after: scores of one protocol over the same classes, at kimg 0 and at the end; may both be empty.
        facts: more lines for the box of facts, such as {"Seed": "0"}.
        next_steps: left out: sampling, interpolating, a longer training and TensorBoard.

    Raises: UserError for scores that cannot be compared.
    """
    check_comparable(before, after)
    sections = [
        _source(folder, transfer, pictures),
        _classes(folder, transfer, pictures),
        _styles(folder, pictures),
        scores_section(before, after, transfer.kimg),
        _curves(folder),
        meaning_section(after),
        Section("Reproduce", commands=(Command("This run was started by:", transfer.command),)),
        Section("Next", commands=tuple(default_steps(transfer) if next_steps is None else next_steps)),
    ]
    report = Report(
        title=title,
        lead=_lead(transfer, before, after),
        facts={**_measured(transfer, before, after), **(facts or {})},
        sections=tuple(s for s in sections if any(s[1:])),
    )
    write_report(report, folder)


def default_steps(transfer: Transfer) -> list[Command]:
    """What a reader may want to type next."""
    run = shlex.quote(transfer.run)
    first = shlex.quote(transfer.classes[0])
    walk = Command("Walk between the classes with other seeds:", f"hmgan interpolate --network {run} --seeds 10-13")
    return [
        Command(
            f"Draw more of {transfer.classes[0]}:",
            f"hmgan sample --network {run} --class {first} --seeds 0-31 --grid 8x4",
        ),
        *([walk] if len(transfer.classes) > 1 else []),
        Command(
            "Train longer, or on images of your own (a folder per class, packed by hmgan pack):",
            f"hmgan train hyper-mod-c --data {shlex.quote(transfer.data)}",
        ),
        Command("Look at the curves in TensorBoard:", f"tensorboard --logdir {run}"),
    ]


def _lead(transfer: Transfer, before: Sequence[Score], after: Sequence[Score]) -> str:
    classes = f"{len(transfer.classes)} classes ({listed(transfer.classes)})"
    if len(transfer.classes) == 1:
        classes = f"one class ({transfer.classes[0]})"
    lead = (
        f"The unconditional generator {transfer.source} was transferred to {classes} of {transfer.data} "
        f"by {transfer.method}. "
        f"It was trained for {transfer.kimg:g} kimg ({1000 * transfer.kimg:,.0f} real images shown) "
        f"in {duration(60 * transfer.minutes)}."
    )
    means = [(a, b) for a, b in pairs(before, after) if a.cls == MEAN]
    if means:
        a, b = means[0]
        show = number_format([a.value, b.value])
        lead += (
            f" The mean {a.metric} of the classes, where lower is better, went from {show(a.value)} to {show(b.value)}."
        )
    return lead


def _measured(transfer: Transfer, before: Sequence[Score], after: Sequence[Score]) -> dict[str, str]:
    """The facts that every transfer has."""
    facts = {
        "Source": transfer.source,
        "Target": f"{transfer.data}, {len(transfer.classes)} {'class' if len(transfer.classes) == 1 else 'classes'}",
        "Method": transfer.method,
        "Training": f"{transfer.kimg:g} kimg in {duration(60 * transfer.minutes)}",
    }
    for a, b in pairs(before, after):
        if a.cls == MEAN:
            show = number_format([a.value, b.value])
            facts[f"Mean {a.metric} {ARROW}"] = f"{show(a.value)} \N{RIGHTWARDS ARROW} {show(b.value)}"
    return facts


def _source(folder: Path, transfer: Transfer, pictures: Pictures) -> Section:
    caption = f"Images by {transfer.source}, as it was before the transfer. It knows no classes."
    picture = Picture(pictures.source, caption, "A grid of images that the source generates")
    return Section("The source", pictures=_present(folder, [picture]))


def _classes(folder: Path, transfer: Transfer, pictures: Pictures) -> Section:
    """Real images, and the generator before and after, a row per class."""
    names = listed(transfer.classes)
    after = pictures.after or newest_fakes(folder)
    shown = [
        Picture(pictures.reals, f"Real: images of {transfer.data}.", f"Real images, a row for each of {names}"),
        Picture(
            pictures.before,
            "Before: the generator at kimg 0, a row per class. Along a column z and noise are the same.",
            f"Generated images before training, a row for each of {names}",
        ),
    ]
    if after is not None:
        caption = f"After: {transfer.kimg:g} kimg later. Same z and noise as in the picture before, in the same places."
        shown.append(Picture(after, caption, f"Generated images after training, a row for each of {names}"))
    return Section("Real, before, after", pictures=_present(folder, shown))


def _styles(folder: Path, pictures: Pictures) -> Section:
    shown = [
        Picture(
            pictures.styles,
            "One z and noise per column, one class per row.",
            "A grid of generated images: a class per row, a seed per column",
        ),
        Picture(
            pictures.interpolation,
            "One z and noise per row; along it the class vector moves in straight lines from each class to the next.",
            "Rows of generated images that pass from class to class",
        ),
    ]
    return Section("Across the classes", pictures=_present(folder, shown))


def _curves(folder: Path) -> Section:
    """Draws what stats.jsonl and metrics.jsonl hold."""
    stats, metrics = read_lines(folder / "stats.jsonl"), read_lines(folder / "metrics.jsonl")
    shown = []
    if len({line["kimg"] for line in metrics}) > 1:
        caption = "Scores at the snapshots: a line per class, their mean in bold."
        figures = [curves.score_curves(metrics, ink=ink) for ink in (curves.LIGHT, curves.DARK)]
        shown.append(_saved(folder, "score_curves", figures, caption, "Scores over kimg, by class"))
    if any(key.startswith(("loss/", "score/")) for line in stats for key in line):
        caption = "Losses, as they were logged; nothing is smoothed."
        figures = [curves.loss_curves(stats, ink=ink) for ink in (curves.LIGHT, curves.DARK)]
        shown.append(_saved(folder, "loss_curves", figures, caption, "Losses over kimg"))
    return Section("Curves", pictures=tuple(shown))


def _saved(folder: Path, name: str, figures: Sequence[Figure], caption: str, alt: str) -> Picture:
    """A figure drawn for light and for dark pages."""
    names = (f"{name}.png", f"{name}-dark.png")
    for file, figure in zip(names, figures, strict=True):
        curves.save_figure(figure, folder / file)
    return Picture(names[0], caption, alt, width=curves.WIDTH, dark=names[1])


def listed(names: Sequence[str], most: int = 12) -> str:
    """a, b and c; cut short where there are many."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def newest_fakes(folder: Path) -> str | None:
    """The grid of the highest kimg."""
    matches = [re.fullmatch(r"fakes(\d+\.\d+)\.png", path.name) for path in folder.glob("fakes*.png")]
    found = [match for match in matches if match]
    return max(found, key=lambda match: float(match[1]))[0] if found else None


def _present(folder: Path, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    return tuple(picture for picture in pictures if (folder / picture.path).is_file())
