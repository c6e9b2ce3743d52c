"""The report of a transfer run: what was done, what came out, and what the numbers are worth."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hmgan.evaluation import references
from hmgan.evaluation.score import MEAN, Score
from hmgan.metrics.measures import arrow, better
from hmgan.report import curves
from hmgan.report.document import Command, Picture, Report, Section, write_report
from hmgan.report.scores import (
    beside_section,
    collapse_section,
    meaning_section,
    number_format,
    pairs,
    read_lines,
    scores_section,
)
from hmgan.units import duration


class Transfer(NamedTuple):
    """What was trained, in the words that its report uses."""

    title: str  # of the report
    source: str  # "fashion-32, a StyleGAN of clothing"
    classes: tuple[str, ...]
    data: str  # "fashion-close"
    method: str  # "Hyper-Mod C"
    kimg: float  # thousands of real images shown
    minutes: float  # wall clock
    command: str  # what the reader types to do the same
    run: str  # the run directory as the reader would type it
    collapse: float  # the share of the reals' diversity below which a class is named
    facts: Mapping[str, str]  # more lines for the box of facts, such as {"Seed": "0"}


def transfer_report(folder: Path, transfer: Transfer, before: Sequence[Score], after: Sequence[Score]) -> None:
    """Writes REPORT.md and report.html into a run directory, from the pictures and logs that are there.

    Args:
        before, after: scores of one protocol over the same classes, at kimg 0 and at the end; may both be empty.

    Raises: UserError for scores that cannot be compared.
    """
    joined = pairs(before, after)
    text, measured = _summary(transfer, [pair for pair in joined if pair[0].cls == MEAN])
    sections = [
        *_pictures(folder, transfer),
        scores_section(joined, transfer.kimg),
        beside_section(references.read(folder / references.LINES), after),
        collapse_section(after, transfer.collapse),
        _curves(folder),
        meaning_section(after[0].extractor if after else None),
        Section("Reproduce", commands=[Command("This run was started by:", transfer.command)]),
        Section("Next", commands=_next_steps(transfer)),
    ]
    write_report(Report(transfer.title, text, {**measured, **transfer.facts}, sections), folder)


def _next_steps(transfer: Transfer) -> list[Command]:
    """What a reader may want to type next."""
    run, first = shlex.quote(transfer.run), shlex.quote(transfer.classes[0])
    sample = f"hmgan sample --network {run} --class {first} --seeds 0-31 --grid 8x4"
    walk = Command("Walk between the classes with other seeds:", f"hmgan interpolate --network {run} --seeds 10-13")
    own = "Train longer, or on images of your own (a folder per class, packed by hmgan pack):"
    return [
        Command(f"Draw more of {transfer.classes[0]}:", sample),
        *([walk] if len(transfer.classes) > 1 else []),
        Command(own, f"hmgan train hmgan-best --data {shlex.quote(transfer.data)}"),
        Command("Look at the curves in TensorBoard:", f"tensorboard --logdir {run}"),
    ]


def _summary(transfer: Transfer, means: Sequence[tuple[Score, Score]]) -> tuple[str, dict[str, str]]:
    """The first paragraph, and the facts that every transfer has."""
    count, time = len(transfer.classes), duration(60 * transfer.minutes)
    classes = f"{count} classes ({listed(transfer.classes)})" if count > 1 else f"one class ({transfer.classes[0]})"
    text = (
        f"The unconditional generator {transfer.source} was transferred to {classes} of {transfer.data} "
        f"by {transfer.method}. It was trained for {transfer.kimg:g} kimg "
        f"({1000 * transfer.kimg:,.0f} real images shown) in {time}."
    )
    facts = {
        "Source": transfer.source,
        "Target": f"{transfer.data}, {count} {'class' if count == 1 else 'classes'}",
        "Method": transfer.method,
        "Training": f"{transfer.kimg:g} kimg in {time}",
    }
    for i, (a, b) in enumerate(means):
        first, last = map(number_format([a.value, b.value]), (a.value, b.value))
        facts[f"Mean {a.metric} {arrow(a.metric)}"] = f"{first} \N{RIGHTWARDS ARROW} {last}"
        if i == 0:
            text += (
                f" The mean {a.metric} of the classes, where {better(a.metric)} is better, went from {first} to {last}."
            )
    return text, facts


def _pictures(folder: Path, transfer: Transfer) -> list[Section]:
    """The pictures that are in the folder."""
    names = listed(transfer.classes)
    sections = {
        "The source": [
            Picture(
                "source.png",
                f"Images by {transfer.source}, as it was before the transfer. It knows no classes.",
                "A grid of images that the source generates",
            )
        ],
        "Real, before, after": [
            Picture("reals.png", f"Real: images of {transfer.data}.", f"Real images, a row for each of {names}"),
            Picture(
                "fakes_init.png",
                "Before: the generator at kimg 0, a row per class. Along a column z and noise are the same.",
                f"Generated images before training, a row for each of {names}",
            ),
            Picture(
                newest_fakes(folder) or "fakes.png",
                f"After: {transfer.kimg:g} kimg later. Same z and noise, at the same positions as before.",
                f"Generated images after training, a row for each of {names}",
            ),
        ],
        "What the images stand beside": [
            Picture(
                "photograph.png",
                "One photograph of each class, the most central of 64, repeated. A generator that draws one image per "
                "class looks like this, and its Fr\u00e9chet distance may be no worse.",
                f"One real image, repeated, for each of {names}",
            ),
            Picture(
                "zoo.png",
                f"The package's own model of {transfer.data}, which was trained for longer; not this run.",
                "Images of a generator that was trained for longer, a row per class",
            ),
        ],
        "Across the classes": [
            Picture(
                "styles.png",
                "One z and noise per column, one class per row. Look at two things: rows should part, and images along "
                "a row should differ.",
                "A grid of generated images: a class per row, a seed per column",
            ),
            Picture(
                "interpolation.png",
                "One z and noise per row; the class vector moves in straight lines from each class to the next.",
                "Rows of generated images that pass from class to class",
            ),
        ],
    }
    return [
        Section(title, pictures=[picture for picture in pictures if (folder / picture.path).is_file()])
        for title, pictures in sections.items()
    ]


def _curves(folder: Path) -> Section:
    """Draws what stats.jsonl and metrics.jsonl hold."""
    stats, metrics = read_lines(folder / "stats.jsonl"), read_lines(folder / "metrics.jsonl")
    shown = []
    if len({line["kimg"] for line in metrics}) > 1:
        caption = "Scores at the snapshots: a line per class, their mean in bold."
        draw = partial(curves.score_curves, metrics)
        shown.append(curves.save_both(draw, folder, "score_curves", caption, "Scores over kimg, by class"))
    if any(key.startswith(("loss/", "score/")) for line in stats for key in line):
        caption = "Losses, as they were logged; nothing is smoothed."
        draw = partial(curves.loss_curves, stats)
        shown.append(curves.save_both(draw, folder, "loss_curves", caption, "Losses over kimg"))
    return Section("Curves", pictures=shown)


def listed(names: Sequence[str], most: int = 12) -> str:
    """a, b and c; cut short where there are many."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def newest_fakes(folder: Path) -> str | None:
    """The file name of the grid of the highest kimg; None where there is none."""
    matches = [re.fullmatch(r"fakes(\d+\.\d+)\.png", path.name) for path in folder.glob("fakes*.png")]
    newest = max((match for match in matches if match), key=lambda match: float(match[1]), default=None)
    return newest and newest[0]
