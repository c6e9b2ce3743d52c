"""What one rank of several does, whose checkpoints are written by all of them."""

from __future__ import annotations

from pathlib import Path

import tiny
import torch
import torch.distributed as dist

from hmgan.config.experiment import Experiment
from hmgan.train import checkpoint
from hmgan.train.log import RunLog
from hmgan.train.trainer import Trainer

# Even the smallest layers are divided; two steps, each saved.
FSDP2 = ("compute.engine=fsdp2", "compute.engine.unit=50")
LARGER = ("train.batch=16", "train.kimg=0.032", "train.snap=0.016")  # for four ranks
STEPS = ("train.batch=8", "train.kimg=0.016", "train.snap=0.008", "train.checkpoints=1")


def experiment(shards: Path, source: Path, *more: str) -> Experiment:
    return tiny.transfer(shards, source, *STEPS, "compute.checkpoint=sharded", *more)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """All that a checkpoint holds, whole; every rank calls it."""
    return checkpoint.copy_of(trainer.task.kept()).tensors


def main(shards: Path, source: Path, out: Path, *engine: str) -> None:
    """Trains and saves; then the same tensors as one file; then another trainer takes what was saved."""
    made = experiment(shards, source, *engine)
    trainer = tiny.make_trainer(made, out)
    with RunLog(None, made.train.kimg) as log:
        trainer.train(log)
    whole = state(trainer)
    if trainer.runtime.main:
        checkpoint.write(out / "whole", checkpoint.Copy(whole, {}), {"step": trainer.step})
    again = tiny.make_trainer(experiment(shards, source, *engine, "train.seed=1"), out)
    again.resume(out / "checkpoints" / f"{trainer.step:09d}")
    for name, x in state(again).items():
        assert torch.equal(x, whole[name]), name
    dist.destroy_process_group()
