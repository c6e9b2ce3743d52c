"""What one GPU does with the 256 px model, from its ceilings to whole iterations: one command, predictions beside it.

    python scripts/bench_gpu.py --all --budget 540 --json gpu.json     # every section in turn, and one table
    python scripts/bench_gpu.py --section checks                       # one of them
    python scripts/bench_gpu.py --all --tiny                           # to its end on a CPU, at 16 px: that it runs

Every section is a process of its own, since a kernel that faults leaves its process useless, with a limit of its own.
Its part of the JSON file is rewritten after each measure, so that it is whole at any end. `checks` comes before all
that is timed: where it fails, nothing after it is run. Sections that no time is left for are named, and not begun.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from gpu_measures import PAPER, TINY, Measure, Size
from rich.console import Console
from rich.table import Table


class Section(NamedTuple):
    """Where it is, and the seconds that it is planned to take of a budget of 540."""

    module: str
    function: str
    seconds: int


SECTIONS = {
    "ceilings": Section("gpu_sections", "ceilings", 15),
    "checks": Section("gpu_sections", "checks", 60),
    "convolutions": Section("gpu_sections", "convolutions", 45),
    "passes": Section("gpu_sections", "passes", 25),
    "discriminator": Section("gpu_networks", "discriminator", 65),
    "generator": Section("gpu_networks", "generator", 45),
    "iterations": Section("gpu_iterations", "iterations", 240),
    "syncs": Section("gpu_iterations", "syncs", 15),
    "profile": Section("gpu_iterations", "profiled", 30),
}


def measure(name: str, size: Size, file: Path, console: Console) -> None:
    """Runs a section in this process."""
    section = SECTIONS[name]
    run: Callable[[Size], Iterator[Measure]] = getattr(__import__(section.module), section.function)
    measures: list[dict[str, Any]] = []
    file.write_text("[]\n", encoding="utf-8")
    for found in run(size):
        measures.append({"section": name, **found._asdict()})
        file.write_text(json.dumps(measures, indent=1) + "\n", encoding="utf-8")
        console.print(f"{name}: {found.case}: {found.value:.4g} {found.unit}", markup=False)


def every(size: Size, budget: float, console: Console) -> dict[str, Any]:
    """Runs all sections, each in a process of its own. Returns what they found, and what came of those that did not."""
    began = time.monotonic()
    result: dict[str, Any] = {**about(size), "measures": [], "left_out": [], "failed": {}}
    for name, section in SECTIONS.items():
        left = budget - (time.monotonic() - began)
        if left < section.seconds / 2 or "checks" in result["failed"]:
            result["left_out"].append(name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "part.json"
            command = [sys.executable, __file__, "--section", name, "--json", str(file), *["--tiny"] * size.tiny]
            try:
                subprocess.run(command, check=True, timeout=min(left, size.patience * section.seconds))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                result["failed"][name] = str(error).partition("' ")[2] or str(error)
            if file.is_file():
                result["measures"] += json.loads(file.read_text(encoding="utf-8"))
    result["cases"] = [found["more"] for found in result["measures"] if found["section"] == "iterations"]
    return result


def environment(size: Size) -> dict[str, str]:
    """What is set for sections; a CPU runs kernels by Triton's interpreter."""
    return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **({} if size.cuda else {"TRITON_INTERPRET": "1"})}


def about(size: Size) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if size.cuda else platform.processor() or "CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if size.cuda else None,
        "resolution": size.resolution,
        "classes": 3,
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table("section", "case", "measured", "expected", "measured / expected")
    for found in result["measures"]:
        value, expected = found["value"], found["expected"]
        ratio = f"{value / expected:.2f}" if expected else ""
        beside = "" if expected is None else f"{expected:.4g}"
        table.add_row(found["section"], found["case"], f"{value:.4g} {found['unit']}", beside, ratio)
    console.print(table)
    for name, what in result["failed"].items():
        console.print(f"{name} failed: {what}", markup=False)
    console.print(f"{result['device']}; left out: {', '.join(result['left_out']) or 'nothing'}", markup=False)


def main(
    section: Annotated[str, typer.Option(help=f"run this one: {', '.join(SECTIONS)}")] = "",
    whole: Annotated[bool, typer.Option("--all", help="run every section, in this order")] = False,
    budget: Annotated[float, typer.Option(help="seconds for all of them")] = 540.0,
    tiny: Annotated[bool, typer.Option("--tiny", help="networks of 16 px and 8 channels, which a CPU takes")] = False,
    file: Annotated[Path | None, typer.Option("--json", help="write the numbers here")] = None,
) -> None:
    """Measures one GPU, or tries the bench itself on a CPU."""
    if whole == bool(section) or (section and section not in SECTIONS):
        raise typer.BadParameter(f"give --all, or one --section of {', '.join(SECTIONS)}, got {section!r}")
    size, console = TINY if tiny else PAPER, Console(width=140)
    os.environ.update(environment(size))  # before a section imports Triton
    if section:
        with tempfile.TemporaryDirectory() as folder:
            measure(section, size, file or Path(folder) / "part.json", console)
        return
    result = every(size, budget, console)
    show(result, console)
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
