"""Images/s against the number of ranks, the share of time in collectives, and memory per rank, by engine.

    python scripts/bench_scaling.py                                  # 1 and 2 CPU ranks, one thread each
    python scripts/bench_scaling.py --ranks 1 --ranks 2 --ranks 4 --ranks 8 --resolution 256 --batch 32    # 8 GPUs

Each line is a torchrun of its own. Strong scaling keeps the global batch, weak scaling the batch of a rank. Efficiency
is images/s per rank, of those of the fewest ranks with the same engine. Time in collectives is the backend's own, from
the profiler, in steps that are not timed: waiting for slower ranks counts, and so does what hides behind arithmetic.
Memory is that of all tensors after a step: weights, moments, averages, and what an engine adds; on GPUs it is the peak
of the device. Where cores are busy otherwise, figures are no figures.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table
from row_c import LAZY, experiment_of, images_of, networks, task_of, trainer_of, widths_of
from torch.profiler import ProfilerActivity, profile

from hmgan.config import entries
from hmgan.config.settings import Compute
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.preflight import preflight

CLASSES = 3
BACKENDS = ("gloo:", "nccl:")  # as the profiler names their work
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def held() -> int:
    """Bytes of all tensors that there are, or of the device's peak."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    gc.collect()
    # A divided tensor has no memory of its own; what this rank holds of it is a tensor too.
    storages = [x.untyped_storage() for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages if storage.data_ptr()}.values())


@app.command(hidden=True)
def rank(
    engine: str, batch: int, resolution: int, channels: int, heads: str, precision: str, repeats: int, out: Path
) -> None:
    """One rank of several; the first writes what it measured."""
    torch.set_num_threads(1)
    runtime = Runtime()
    before = held()
    pair = networks(CLASSES, resolution, widths_of(resolution, channels), heads)
    compute = Compute.model_validate({"engine": engine, "precision": precision})
    task = task_of(pair, experiment_of(batch, compute), CLASSES, runtime)
    preflight(task)
    trainer = trainer_of(task, runtime)
    images = images_of(batch // runtime.world, resolution, CLASSES)
    drained = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None

    def step(number: int) -> float:
        trainer.step = number
        runtime.wait()
        drained()
        began = time.perf_counter()
        trainer.take_step(images)
        drained()
        return time.perf_counter() - began

    for number in (0, 1):
        step(number)
    after = held()
    # R1 has one step in so many, and no collective of its own.
    plain = statistics.median(step(1) for _ in range(repeats))
    with_r1 = statistics.median(step(0) for _ in range(max(1, repeats // 2)))
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiled:
        profiled_seconds = step(1) + step(1)
    waits = [e for e in profiled.events() if e.name.startswith(BACKENDS) and not e.name.endswith("barrier")]
    mean = (with_r1 + (LAZY - 1) * plain) / LAZY
    if runtime.main:
        found = {
            "engine": engine,
            "ranks": runtime.world,
            "batch": batch,
            "images_per_second": batch / mean,
            "seconds": mean,
            "collective_share": sum(event.time_range.elapsed_us() for event in waits) / 1e6 / profiled_seconds,
            "collectives_per_step": len(waits) / 2,
            "gib": (after - before) / 2**30,
            "trained_generator": sum(p.numel() for p in trainer.task.generator.trained.parameters() if p.requires_grad),
            "trained_discriminator": sum(p.numel() for p in trainer.task.discriminator.parameters()),
        }
        out.write_text(json.dumps(found), encoding="utf-8")
    if runtime.world > 1:
        torch.distributed.destroy_process_group()


def measure(ranks: int, file: Path, *arguments: object) -> dict[str, Any] | str:
    """A torchrun of `rank`: what it measured, or the end of what it said in place of that."""
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "rank", *map(str, arguments), str(file)], env=environment, capture_output=True, text=True
    )
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else run.stderr[-600:]


def table_of(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    for column in ("engine", "scaling", "ranks", "batch", "images/s", "efficiency", "in collectives", "GiB per rank"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["engine"],
            row["scaling"],
            str(row["ranks"]),
            str(row["batch"]),
            f"{row['images_per_second']:.2f}",
            f"{row['efficiency']:.2f}",
            f"{row['collective_share']:.1%}",
            f"{row['gib']:.2f}",
        )
    return table


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    ranks: Annotated[list[int] | None, typer.Option(help="world sizes; 1 and 2 if left out")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="engines; all that there are if left out")] = None,
    scaling: Literal["strong", "weak", "both"] = "both",
    batch: Annotated[int, typer.Option(help="global in strong scaling, of a rank in weak")] = 8,
    resolution: int = 32,
    channels: Annotated[int, typer.Option(help="of every block; 0 takes the paper's")] = 128,
    heads: Literal["full", "low-rank"] = "full",
    precision: Literal["float32", "bf16"] = "float32",
    repeats: int = 5,
    file: Annotated[Path | None, typer.Option("--json", help="write the numbers here too")] = None,
) -> None:
    """Measures ranks and engines, one torchrun each."""
    if context.invoked_subcommand is not None:
        return
    console, rows, failures = Console(width=140), [], []
    scratch = Path(tempfile.mkdtemp()) / "rank.json"
    kinds = ["strong", "weak"] if scaling == "both" else [scaling]
    for name in engine or entries.known("engine"):
        measured: dict[tuple[int, int], dict[str, Any] | str] = {}
        for kind in kinds:
            first: float | None = None
            for world in sorted(ranks or [1, 2]):
                whole = batch * world if kind == "weak" else batch
                if (world, whole) not in measured:
                    measured[world, whole] = measure(
                        world, scratch, name, whole, resolution, channels, heads, precision, repeats
                    )
                found = measured[world, whole]
                if isinstance(found, str):
                    failures.append(f"{name}, {world} ranks: {found}")
                    continue
                assert found["ranks"] == world, f"{world} ranks were asked for, got a world of {found['ranks']}"
                first = first or found["images_per_second"] / world
                rows.append({"scaling": kind, **found, "efficiency": found["images_per_second"] / world / first})
                console.print(rows[-1])
    console.print(table_of(rows, f"{resolution} px, {heads} heads, {precision}"))
    for failure in failures:
        console.print(failure, markup=False)
    if file is not None:
        file.write_text(
            json.dumps({"torch": torch.__version__, "rows": rows, "failed": failures}, indent=1) + "\n",
            encoding="utf-8",
        )
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
