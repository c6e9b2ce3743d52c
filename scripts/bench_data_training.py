"""How long two ranks wait for their data while the demo trains, for bench_data.py."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STEPS, BATCH = 40, 8
WARMING = 5  # steps that are not counted: the first waits for the shards that it needs


class Waiting(NamedTuple):
    """Of the rank that waited most."""

    share: float  # of the time of all steps
    step: float  # seconds, median
    first: float  # seconds until the first batch


def waiting(data: str) -> Waiting:
    """Trains the demo on two ranks that read `data`, and reads their clocks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, __file__, data, folder], check=True, env=environment, capture_output=True)
        ranks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("rank*.json"))]
    assert len(ranks) == 2, f"two ranks were started, {len(ranks)} answered"
    return max(Waiting(**rank) for rank in ranks)


class Clocked:
    """The stream of batches, with a note of every wait."""

    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream, self.waits, self.ends = stream, [], []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begin = time.perf_counter()
        batch = next(self._stream)
        self.ends.append(time.perf_counter())
        self.waits.append(self.ends[-1] - begin)
        return batch


def train(data: str, folder: Path) -> None:
    """One rank: the demo's experiment, its trainer, and its stream behind a clock."""
    from hmgan.config.loading import load_experiment
    from hmgan.data import indexed
    from hmgan.train import trainer
    from hmgan.train.log import RunLog
    from hmgan.train.prepare import prepare

    clocks: list[Clocked] = []
    read = indexed.batches

    def clocked(*arguments: Any, **options: Any) -> Clocked:
        clocks.append(Clocked(read(*arguments, **options)))
        return clocks[-1]

    indexed.batches = clocked  # type: ignore[assignment]
    settings = [f"data={data}", f"train.batch={BATCH}", f"train.kimg={STEPS * BATCH / 1000}", "train.trackers=[]"]
    settings += ["train.snap=1000", "evaluation.per_class=0", "compute.threads=1"]
    experiment = load_experiment("demo", settings)
    prepared = prepare(experiment)
    work = folder / f"rank{prepared.runtime.rank}"
    work.mkdir()
    made = trainer.Trainer(prepared.task, prepared.runtime, work, lambda *_: None)
    with RunLog(None, experiment.train.kimg, None) as log:
        made.train(log)
    clock = clocks[0]
    steps = [b - a for a, b in zip(clock.ends[WARMING:], clock.ends[WARMING + 1 :], strict=False)]
    waits = clock.waits[WARMING + 1 :]
    report = {"share": sum(waits) / sum(steps), "step": sorted(steps)[len(steps) // 2], "first": clock.waits[0]}
    (folder / f"rank{prepared.runtime.rank}.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))
