"""What an iteration costs: (a) the released code's way, (b) ours, (c) the source without any modulation, the limit.

    python scripts/bench_step.py                             # 64 px, batch 8, 3 classes; about 40 minutes on two cores
    python scripts/bench_step.py --batch 32 --part generator
    python scripts/bench_step.py --part agree                # (a) and (b): outputs and gradients
    python scripts/bench_step.py --backbone stylegan2 --part site        # sites, against kernels per sample
    python scripts/bench_step.py --backbone stylegan3 --resolution 256 --part generator
    python scripts/bench_step.py --part operators --batch 32 --classes 3,28,102   # what a GPU's host has to launch

The variants take turns within one run and every number is a median, so that a busy machine disturbs all of them alike.
Peak memory is that of a process of its own. (c) trains the source's weights: the gradient by a convolution's weight is
part of any method, and without it (c) would skip a third of the work.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
import torch
import typer
from bench_step_agreement import disagreement
from bench_step_iterations import iteration_rows, memory_row, operators_row
from bench_step_passes import generator_rows, site_rows
from bench_step_styled import styled_rows
from bench_step_table import Row, show
from bench_step_timing import Pace, keep_freed_memory
from bench_step_variants import Size
from rich.console import Console


def main(
    batch: Annotated[int, typer.Option(min=2)] = 8,
    resolution: int = 64,
    classes: Annotated[str, typer.Option(help="one number, or several for the operators alone: 3,28,102")] = "3",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="measured turns of each variant")] = 7,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu counts our own work: one thread, busy machine")
    ] = "wall",
    backbone: Annotated[
        Literal["stylegan1", "stylegan2", "stylegan3"],
        typer.Option(help="of stylegan2 and 3: parts site, generator and memory, (a) a kernel per sample"),
    ] = "stylegan1",
    part: Literal["site", "generator", "iteration", "memory", "agree", "operators", "all"] = "all",
    site_pixels: Annotated[list[int] | None, typer.Option(help="where the site works; 16 and 32 if left out")] = None,
    released: Annotated[bool, typer.Option(help="measure (a) too; its memory grows by about 0.4 GiB a sample")] = True,
    merge: Annotated[bool, typer.Option(help="D's passes in one, where there is no R1 (compute.merge)")] = False,
    file: Annotated[Path | None, typer.Option("--json", help="write the numbers here too")] = None,
) -> None:
    """Measures an iteration and its parts: the released code's way, ours, and the source alone."""
    torch.set_num_threads(threads)
    first, *_ = numbers = [int(number) for number in classes.split(",")]
    size, console, rows = Size(batch, resolution, first, threads, merge=merge), Console(), []
    pace = Pace(repeats, time.process_time if clock == "cpu" else time.perf_counter)
    wants = ["memory", "site", "generator", "iteration", "operators", "agree"] if part == "all" else [part]
    result: dict[str, Any] = {"size": size._asdict(), "torch": torch.__version__}
    if backbone != "stylegan1":
        rows = styled_rows(size, pace, backbone, wants, site_pixels or [32, 64])
        show(rows, console)
        write(file, result, rows)
        return
    if released and _available_gib() < (needed := 12 + 0.5 * batch):
        console.print(f"(a) does not fit: it wants about {needed:.0f} GiB beside ours, {_available_gib():.0f} are free")
        released = False
    if "memory" in wants:  # first: a child inherits the peak of its parent
        rows.append(memory_row(size, released))
    keep_freed_memory()
    if "site" in wants:
        for pixels in site_pixels or (16, 32):
            rows += site_rows(size, pace, pixels, released)
    if "generator" in wants:
        rows += generator_rows(size, pace, released)
    if "iteration" in wants:
        rows += iteration_rows(size, pace, released)
    if "operators" in wants:
        rows += [operators_row(size._replace(classes=number)) for number in numbers]
    if rows:
        show(rows, console)
    if "agree" in wants:
        result["agree"] = disagreement(size._replace(batch=min(batch, 4)))
        worst = max(result["agree"], key=result["agree"].__getitem__)
        console.print(f"(a) and (b) agree within {result['agree'][worst]:.1e} relative, worst in {worst}; wanted 1e-4")
    write(file, result, rows)


def write(file: Path | None, result: dict[str, Any], rows: list[Row]) -> None:
    """The numbers as JSON, where a file was named."""
    if file is not None:
        table = result | {"rows": [row._asdict() for row in rows]}
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _available_gib() -> float:
    return psutil.virtual_memory().available / 2**30


if __name__ == "__main__":
    typer.run(main)
