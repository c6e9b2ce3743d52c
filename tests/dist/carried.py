"""Trainings that other engines go on with, as one rank of several."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import tiny
import torch
from equivalence import float64

from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare
from hmgan.train.run import resume_run
from hmgan.train.tasks import gan
from hmgan.train.trainer import Trainer

BATCH = 8
SETTINGS = (f"train.batch={BATCH}", "task.freeze=[]", "r1.every=2", "contrastive=barlow-twins", "train.snap=100")
SKIP = 'train.on_nonfinite="skip"'
EXACT = ("replicated", "fsdp2")  # DeepSpeed knows no float64
CHAIN = ("replicated", "zero1", "fsdp2", "zero2")


def go_on(folder: Path, shards: Path, source: Path, engine: str, steps: int, *more: str) -> tuple[Trainer, int]:
    """Trains to that step from the newest checkpoint in the folder, and leaves another one there; the world size."""
    unit = ["compute.engine.unit=50"] if engine == "fsdp2" else []
    kimg = f"train.kimg={steps * BATCH / 1000}"
    experiment = tiny.transfer(shards, source, *SETTINGS, f"compute.engine={engine}", *unit, kimg, *more)
    prepared = prepare(experiment)
    for network in prepared.networks:  # the files hold float32
        network.to(torch.get_default_dtype())
    runtime = prepared.runtime
    trainer = Trainer(prepared.task, runtime, folder, tiny.no_snapshot)
    with RunLog(None, experiment.train.kimg) as log:
        resume_run(trainer, folder, log)
        trainer.train(log)
    runtime.wait()
    return trainer, runtime.world


def main(shards: Path, source: Path, out: Path, *engines: str) -> None:
    def on(name: str, engine: str, steps: int, *more: str) -> Trainer:
        trainer, world = go_on(out / name, shards, source, engine, steps, *more)
        assert world == 2, f"two ranks were asked for, got a world of {world}"
        return trainer

    for step, engine in enumerate([name for name in CHAIN if name in engines], 2):
        on("chain", engine, step)
        straight = on("straight", "replicated", step)
    shown = {"straight": straight.task.averaged()}
    for engine in engines[1:]:
        on(f"{engine}-stopped", engine, 1)
        on(f"{engine}-stopped", engine, 2)
        shown[engine] = on(f"{engine}-whole", engine, 2).task.averaged()
    gen_loss = gan.gen_loss

    def poisoned(*args, **options):
        """Not a number on one rank in the second step."""
        loss, stats = gen_loss(*args, **options)
        step = args[-2].draws.step
        return (loss * torch.nan if step == 1 and torch.distributed.get_rank() == 1 else loss), stats

    with patch.object(gan, "gen_loss", poisoned):
        for engine in engines:
            on(f"{engine}-poisoned", engine, 3, SKIP)
        with float64():
            for engine in EXACT:
                on(f"{engine}-poisoned-float64", engine, 3, SKIP)
    # Each rank by itself draws with the average, one after the other: nothing in it waits for the other rank.
    rank = torch.distributed.get_rank()
    with torch.no_grad():
        for name, generator in shown.items():
            for turn in range(2):
                if rank == turn:
                    image = generator(generator.latents(range(3)), torch.arange(3)).image
                    torch.save(image, out / f"{name}-image{rank}.pt")
                torch.distributed.barrier()
    torch.distributed.destroy_process_group()
