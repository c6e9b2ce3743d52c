"""What options of several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from typer import Argument, Option

from hmgan.errors import UserError

MOST_SEEDS = 1_000_000  # of one command
LAST_SEED = 2**63 - 1


class Setting(NamedTuple):
    """The setting of an experiment, `table.key`, that an option stands for; the option has its unit."""

    path: str


Set = Annotated[list[str], Option("--set", metavar="A.B=C", help="Override any setting; repeatable.")]
Outdir = Annotated[Path, Option(help="Folder that run directories are made in.")]
Data = Annotated[
    list[str] | None,
    Option(help="Packed images: a folder, a URL, or a name of `hmgan list datasets`; repeatable: as one set."),
    Setting("data.sources"),
]
Source = Annotated[str | None, Option(help="A source folder, or a name of `hmgan list sources`."), Setting("source")]
Batch = Annotated[int | None, Option(help="Images per step, over all ranks."), Setting("train.batch")]
Kimg = Annotated[float | None, Option(help="Thousands of real images to train for."), Setting("train.kimg")]
Metrics = Annotated[
    int | None,
    Option(help="Fakes per class to score at every snapshot; 0: no scores."),
    Setting("evaluation.per_class"),
]
Seed = Annotated[int | None, Option(help="Seed of everything random."), Setting("train.seed")]
Model = Annotated[
    Path | None,
    Argument(help="A run, a snapshot, an exported folder, OWNER/NAME of a hub, or one of `hmgan list sources`."),
]
Network = Annotated[Path | None, Option(help="MODEL, by its older name.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1, ...; left out: a GPU where there is one.")]
Seeds = Annotated[str, Option(help="For example 0,1,4-6.")]
Classes = Annotated[list[str], Option("--class", help="A class; repeatable; left out: all.")]
Trunc = Annotated[float, Option(min=-10, max=10, help="Truncation; 1 is none.")]
Towards = Annotated[
    Literal["mean", "class"],
    Option(help="What it pulls to: the mean of all styles, or the class's centre (`hmgan centres`)."),
]


def model_of(model: Path | None, network: Path | None) -> Path:
    """The model that a command names, as its argument or by --network. Raises UserError for none, and for both."""
    if (model is None) == (network is None):
        got = "none" if model is None else f"{model} and --network {network}"
        raise UserError(f"name one model: a run, a folder, a source or OWNER/NAME of a hub; got {got}")
    return model or network or Path()


def parse_seeds(text: str) -> list[int]:
    """`0,1,4-6` -> [0, 1, 4, 5, 6]. Raises UserError for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"--seeds wants numbers and ranges such as 0,1,4-6, got {text!r}")
        span = range(int(match[1]), int(match[2] or match[1]) + 1)
        if span.stop - span.start + len(seeds) > MOST_SEEDS:
            raise UserError(f"--seeds names more than {MOST_SEEDS:,} seeds, got {text!r}; draw them in parts")
        if span.stop - 1 > LAST_SEED:
            raise UserError(f"--seeds wants numbers up to {LAST_SEED}, got {text!r}; give smaller ones")
        seeds += span
    return seeds
