"""Twenty steps of every backbone under every task, in float64: what tests/golden/ keeps of them, and reads back.

A file is one run, as its stats.jsonl has it: a line per step, and a last one of the images that G's moving average
draws. Twelve significant digits, so that noise of the last bits does not show in a diff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

import tiny
import torch
from torch import Tensor

from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.generators.base import Generator
from hmgan.train.log import RunLog
from hmgan.train.tasks.alignment import aligning

FOLDER = Path(__file__).parent / "golden"
STEPS, BATCH = 20, 4
HALF = STEPS * BATCH / 2000  # kimg
DIGITS = 12
LOCAL = {"kimg", "seconds", "sec_per_kimg", "mem_gib", "tflops"}  # of stats.jsonl, not of the arithmetic
Line = dict[str, float]


def steps_of(batch: int) -> tuple[str, ...]:
    """Twenty steps, and a line for each."""
    return (f"train.batch={batch}", f"train.kimg={STEPS * batch / 1000}", f"train.tick={batch / 1000}")


# R1 is due in five of the steps; gamma is the heuristic's.
COMMON = (*steps_of(BATCH), "r1.every=4")
# Task -> the entry that it starts from, and what is set on top of it. Style mixing and weights are the entries' own.
TRANSFERS = {
    "transfer": ("hyper-mod-b", ()),
    "transfer-all-terms": (
        "hyper-mod-c",
        (
            *steps_of(2 * BATCH),
            "train.accumulate=2",
            "loader.mirror=true",
            "r1.gamma=3.0",
            "disc_head=auxiliary-classifier",
            "augment=diffaugment",
            "regularizer.name=lecam",
            "regularizer.weight=1.0",
        ),
    ),
    "alignment": ("hyper-mod-c-align", ()),
    "fine-tuning": ("hyper-mod-ft", ()),
    # Five of the steps are of whole images near anchors, the others of patches.
    "cdc": ("cdc", ()),
    "ewc": ("ewc", ("gen_penalty.samples=8",)),
    # Ten of the steps are the miner's alone.
    "mining": ("minegan", ("players=mining", f"players.kimg={HALF}")),
    # The rates drop after ten steps.
    "reconstruction": ("bsa", ("task=reconstruction", f"task.drop_kimg={HALF}")),
    "reconstruction-whole": ("bsa", ("class_net=none", "modulation=none", "feature_net=none")),
}
# What the code answers with a UserError: no miner in the backbone, no normalisations to edit, a class in z.
REFUSED = {
    ("biggan", "mining"),
    ("stylegan2", "mining"),
    ("stylegan3", "mining"),
    ("gan-memory-resnet", "mining"),
    ("gan-memory-resnet", "reconstruction"),
    ("biggan", "reconstruction"),
    ("biggan", "reconstruction-whole"),
}


class Run(NamedTuple):
    """One backbone under one task."""

    backbone: str
    task: str

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.backbone}-{self.task}.jsonl"


ALL = [Run(*names) for names in product(entries.known("backbone"), ("pretraining", *TRANSFERS))]
RUNS = [run for run in ALL if run not in REFUSED]


@contextmanager
def float64() -> Iterator[None]:
    """Networks, draws, images and statistics in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def experiment_of(run: Run, shards: Path, folder: Path) -> Experiment:
    """The run's experiment; writes the source that it starts from, if any."""
    if run.task == "pretraining":
        # Against the backbone's own discriminator, where it has one.
        own = run.backbone if run.backbone in entries.known("discriminator") else "stylegan1"
        chosen = [f"discriminator.name={own}", *(f"discriminator.{k}={v}" for k, v in tiny.DISCRIMINATOR.items())]
        return tiny.pretraining(shards, *COMMON, *chosen, "loader.mirror=true", backbone=run.backbone)
    name, settings = TRANSFERS[run.task]
    # Drawn in float64 and kept in float32: float32's own draws differ in the last bit between processors.
    source = tiny.write_source(folder / "source", run.backbone)
    experiment = tiny.transfer(shards, source, *COMMON, *settings, name=name)
    return aligning(experiment) if run.task == "alignment" else experiment


def losses(run: Run, shards: Path, folder: Path) -> list[Line]:
    """Trains the run; the lines of its golden file, unrounded."""
    with float64():
        experiment = experiment_of(run, shards, folder)
        trainer = tiny.make_trainer(experiment, folder)
        with RunLog(folder, experiment.train.kimg) as log:
            trainer.train(log)
        shown = drawn(trainer.task.averaged(), torch.arange(3) if experiment.conditional else torch.zeros(3).long())
    return [*({k: v for k, v in line.items() if k not in LOCAL} for line in read(folder / "stats.jsonl")), shown]


@torch.no_grad()
def drawn(averaged: Generator, labels: Tensor) -> Line:
    """Of images by the moving average, which no loss sees."""
    images = averaged(averaged.latents(range(len(labels))), labels).image
    return {"drawn/mean": images.mean().item(), "drawn/square": images.square().mean().item()}


def read(file: Path) -> list[Line]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, lines: list[Line]) -> None:
    rounded = [{name: float(f"{value:.{DIGITS}g}") for name, value in line.items()} for line in lines]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in rounded))
