"""A rank of tests/dist/test_machines.py, in place of hmgan: in float64, held where its test wants, and writing down."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import test_elastic

from hmgan.cli.app import main
from hmgan.train.trainer import Trainer

HELD = {1: 3, 2: 7}  # of so many ranks, the step that the last one waits in


def hold_and_note(folder: Path) -> None:
    step, free = Trainer.take_step, folder / "free"

    def noted(trainer, batch):
        ranks, images = trainer.runtime, [test_elastic.hash_of(image) for image in batch.images]
        line = [time.time(), os.environ["MASTER_PORT"], ranks.world, trainer.step, ranks.rank, images]
        with (folder / f"drawn-{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        held = ranks.rank == ranks.world - 1 and trainer.step >= HELD[ranks.world]
        while held and not free.exists() and not ranks.stop.requested:
            time.sleep(0.05)
        return step(trainer, batch)

    Trainer.take_step = noted


if __name__ == "__main__":
    test_elastic.in_float64()
    hold_and_note(Path(os.environ["DRAWN"]))
    main()
