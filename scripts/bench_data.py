"""Reading training images: ours, from a disk and from S3, beside what others use, in images per second.

    python scripts/bench_data.py                                    # 64 and 256 px; some minutes on two cores
    python scripts/bench_data.py --other-python VENV/bin/python     # and litdata and mosaicml-streaming
    python scripts/bench_data.py --json figures.json --size 64 --images 2000 --rounds 1

All read the same JPEG bytes, mixed, in this process without workers, and deliver uint8 batches of 64. They take turns
within one run, and every number is a median over the rounds, so that a busy machine disturbs all of them alike. CPU
seconds are those of all threads of the reading process; the S3 server (seaweedfs on this machine) is another one. Cold:
the kernel is told to forget the files' pages first. LMDB is measured where `pip install lmdb` was done. The environment
with the others:

    python -m venv VENV && VENV/bin/pip install litdata mosaicml-streaming simplejpeg torch==2.13.0
    VENV/bin/pip uninstall torchvision      # which fits no CPU build of torch; mosaicml-streaming is read without it
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from bench_data_readers import (
    Elsewhere,
    Reader,
    bytes_only,
    client,
    fast,
    folder_of_files,
    limit,
    lmdb_file,
    ours,
    ours_from_store,
    pillow,
    webdataset_reader,
    without_crc32s,
)
from bench_data_sets import HAS_LMDB, Sets, drop_from_memory, make
from bench_data_training import Waiting, waiting
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parents[1] / "tests" / "data"))
import faulty_s3

IMAGES = {64: 6000, 256: 1200}
LIMIT, OURS, FOLDER = "decode alone, from memory", "hmgan, local", "files, Pillow"
OTHERS = ("litdata", "mosaicml-streaming")
WANTED = (  # better, worse, least ratio, of what
    (OURS, FOLDER, 1.2, "cpu"),
    (OURS, "webdataset, Pillow", 2.0, "cpu"),
    ("hmgan, S3, first epoch", "obstore alone, S3", 0.9, "wall"),
    ("hmgan, S3, second epoch", OURS, 0.95, "wall"),  # equal
)


class Took(NamedTuple):
    """An epoch: images (or bytes), seconds, CPU seconds."""

    count: int
    wall: float
    cpu: float


Runs = dict[tuple[str, str], list[Took]]  # reader, warm or cold -> rounds
Figures = dict[tuple[str, str], dict[str, float]]  # the same -> medians


def timed(reader: Reader) -> Took:
    reader.before()
    wall, cpu = time.perf_counter(), time.process_time()
    count = reader.epoch()
    return Took(count, time.perf_counter() - wall, time.process_time() - cpu)


def measure(sets: Sets, work: Path, rounds: int, other_python: str | None) -> Runs:
    """Every reader in turn, warm and cold, so often."""
    cache = Path(os.environ["HMGAN_CACHE"]) / "shards"
    readers = [
        limit(sets),
        ours(sets),
        folder_of_files(sets, pillow, FOLDER),
        folder_of_files(sets, fast, "files, simplejpeg"),
        webdataset_reader(sets, None, "webdataset, Pillow"),
        webdataset_reader(sets, fast, "webdataset, simplejpeg"),
        *([lmdb_file(sets)] if HAS_LMDB else []),
    ]
    stores: list[Sequence[Reader]] = []  # each after the client, in an order that changes: what comes first is slower
    if sets.url is not None:
        readers += bytes_only(sets, sets.url, cache)
        stores += [ours_from_store(sets.url, cache)]
        stores += [ours_from_store(sets.url, cache, "hmgan, S3 by sha256", without_crc32s)]
        stores = [(client(sets, sets.url), *store) for store in stores]
    runs: Runs = {}
    with ExitStack() as stack:
        elsewhere = {}
        for library in OTHERS if other_python else ():
            elsewhere[library] = Elsewhere(str(other_python), library, sets, work)
            stack.callback(elsewhere[library].close)
        for turn in range(rounds + 1):  # the first is not counted: imports, connections, caches
            for reader in chain(readers, *stores[:: (-1) ** turn]):
                kept: Runs = runs if turn else {}
                kept.setdefault((reader.name, "warm"), []).append(timed(reader))
                if reader.files:
                    drop_from_memory(reader.files)
                    if "second" not in reader.name:  # which goes on in a stream
                        kept.setdefault((reader.name, "cold"), []).append(timed(reader))
            for library, process in elsewhere.items():
                kept.setdefault((f"{library} {process.version}", "warm"), []).append(Took(**process.epoch()))
    return runs


def medians(runs: Runs) -> Figures:
    """Images per second and per CPU second."""
    return {
        key: {
            "wall": statistics.median(took.count / took.wall for took in rounds),
            "cpu": statistics.median(took.count / took.cpu for took in rounds),
        }
        for key, rounds in runs.items()
    }


def show(console: Console, size: int, figures: Figures, sets: Sets) -> None:
    index = sets.index()
    each = sum(index.length.tolist()) / len(index)
    title = f"{size} px, {len(index)} JPEG images of {each / 1024:.1f} KiB in {len(index.shards)} shards"
    table = Table(title=title, box=None, title_justify="left")
    for column in ("", "", "images/s", "per CPU s", f"/ {LIMIT.split(',')[0]}", f"/ {FOLDER}"):
        table.add_column(column, justify="left" if not column else "right")
    for (name, state), row in figures.items():
        if "bytes" not in name:
            ratios = [f"{row['cpu'] / figures[other, 'warm']['cpu']:.2f}" for other in (LIMIT, FOLDER)]
            table.add_row(name, state, f"{row['wall']:,.0f}", f"{row['cpu']:,.0f}", *ratios)
    console.print(table)
    for (name, _), row in figures.items():
        if "bytes" in name:
            console.print(f"{name}: {row['wall'] / 2**20:,.0f} MiB/s, {row['cpu'] / 2**20:,.0f} MiB per CPU second")
    for better, worse, least, what in WANTED:
        if (better, "warm") in figures and (worse, "warm") in figures:
            ratio = figures[better, "warm"][what] / figures[worse, "warm"][what]
            verdict = "reached" if ratio >= least else "NOT reached"
            unit = "CPU second" if what == "cpu" else "second"
            console.print(f"{better} / {worse}, images per {unit}: {ratio:.2f}, wanted {least:g}: {verdict}")
    console.print()


def ratios(figures: Mapping[int, Figures]) -> str:
    """The table of docs/data.md: images per CPU second, decoding alone being 1."""
    columns = [(size, state) for size in figures for state in ("warm", "cold")]
    head = ["images per CPU second, decoding alone = 1", *(f"{size} px, {state}" for size, state in columns)]
    lines = [head, ["---", *["--:"] * len(columns)]]
    for name in dict.fromkeys(name for rows in figures.values() for name, _ in rows if "bytes" not in name):
        cells = [
            f"{figures[size][name, state]['cpu'] / figures[size][LIMIT, 'warm']['cpu']:.2f}"
            if (name, state) in figures[size]
            else ""
            for size, state in columns
        ]
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def demo_waits(url: str | None) -> dict[str, Waiting]:
    """Shares of time that two ranks of the demo wait for data: from the disk, and from the store."""
    from hmgan.data.named import open_data
    from hmgan.data.store.stores import open_store

    folder = Path(str(open_data("fashion-close").index.folder))
    found = {"demo on 2 ranks, local": waiting(str(folder))}
    if url is not None:
        store = open_store(url)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "index.json"):
            store.put(path.name, path.read_bytes())
        found["demo on 2 ranks, S3"] = waiting(url)
    return found


@contextmanager
def s3(wanted: bool) -> Iterator[str | None]:
    """The URL of a bucket of a server of this machine, with its credentials in the environment."""
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, faulty_s3.server(Path(folder)) as endpoint:
        os.environ |= faulty_s3.environment(endpoint)
        yield f"s3://{faulty_s3.BUCKET}"


def main(
    size: Annotated[list[int], typer.Option(help="Pixels; repeatable.")] = [64, 256],  # noqa: B006
    images: Annotated[int | None, typer.Option(help="Of each size; left out: 6000 of 64 px, 1200 of 256 px.")] = None,
    rounds: Annotated[int, typer.Option(help="Each reader's epochs, warm and cold.")] = 5,
    store: Annotated[bool, typer.Option("--s3/--no-s3", help="Start an S3 server, and read from it.")] = True,
    training: Annotated[bool, typer.Option("--training/--no-training", help="Train the demo on two ranks.")] = True,
    other_python: Annotated[str | None, typer.Option(help="A Python that has litdata and mosaicml-streaming.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table of docs/data.md here.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for the data, on the disk to be measured.")] = None,
) -> None:
    torch.set_num_threads(1)
    console = Console(width=110)
    report: dict[str, Any] = {}
    figures: dict[int, Figures] = {}
    with tempfile.TemporaryDirectory(dir=work) as scratch, s3(store) as bucket:
        os.environ["HMGAN_CACHE"] = f"{scratch}/cache"
        for pixels in size:
            folder = Path(scratch) / str(pixels)
            url = None if bucket is None else f"{bucket}/{pixels}"
            sets = make(folder, pixels, images or IMAGES.get(pixels, 1000), url)
            runs = measure(sets, folder, rounds, other_python)
            figures[pixels] = medians(runs)
            show(console, pixels, figures[pixels], sets)
            report[f"{pixels} px"] = {f"{name}, {state}": row for (name, state), row in figures[pixels].items()}
        if training:
            waits = demo_waits(None if bucket is None else f"{bucket}/demo")
            for name, found in waits.items():
                console.print(
                    f"{name}: {found.share:.2%} of the time waiting for data, wanted below 2%; a step takes "
                    f"{found.step * 1000:.0f} ms, the first batch {found.first:.2f} s"
                )
            report["training"] = {name: found._asdict() for name, found in waits.items()}
    if markdown is not None:
        markdown.write_text(ratios(figures), encoding="utf-8")
    if json_ is not None:
        json_.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
