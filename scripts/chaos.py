"""Kills a small run of two ranks over and over with SIGKILL, resumes it each time, and looks for what was lost.

    python scripts/chaos.py --kills 100 --seed 0 --outdir chaos

The run is that of the tests: 8 px, 43,000 trained parameters, a checkpoint every other step. Half of the kills wait for
a checkpoint to be half written, the others come at any moment; each hits rank 0, rank 1 or both. A run that reaches its
end is compared with one that was never killed, bit for bit, and the next one begins. Exit code 1 if anything was lost.
The script itself may be stopped: the same command goes on, with what OUTDIR/trials.jsonl holds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import launched  # noqa: E402
import tiny  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from safetensors import safe_open  # noqa: E402

from hmgan.files import sha256_of  # noqa: E402
from hmgan.train import checkpoint  # noqa: E402
from hmgan.train.distributed import flight  # noqa: E402

STEPS, RANKS = 100, 2
SETTINGS = tiny.options(
    r1__every=3,
    train__batch=8,
    train__tick=0.008,
    train__snap=0.016,
    train__trackers="[]",
    compute__threads=1,
    train__timeout=60.0,  # also for a rank that waits for another one that was killed before they had met
)
VICTIMS = ((0,), (1,), (0, 1))
UNLIKE = (".claims", flight.FOLDER)  # who trained, and the last collectives of ranks that ended each other
TIMED = {Path("log.txt"), Path("stats.jsonl")}
TIMES = {"seconds", "sec_per_kimg", "mem_gib", "tflops"}
PATIENCE = 300.0  # seconds for the survivor to notice
SAVES, SAVE = 10, 0.006  # of how many saves one is chosen, and the seconds into it that a kill comes at most


@dataclass
class Figures:
    """What came of it."""

    kills: int = 0
    meant_for_a_save: int = 0
    while_saving: int = 0  # a half-written checkpoint was left
    rank_0: int = 0
    rank_1: int = 0
    both: int = 0
    runs: int = 0  # that reached their end
    equal: int = 0  # of these, the same as the one never killed, bit for bit
    checkpoints_read: int = 0
    unreadable: int = 0
    survivors_that_hung: int = 0
    slowest_survivor: float = 0.0  # seconds from the kill to its end
    minutes: float = 0.0

    @property
    def clean(self) -> bool:
        return self.runs == self.equal > 0 and self.unreadable == self.survivors_that_hung == 0

    def add(self, news: Mapping[str, float]) -> None:
        """Counts add up; of the survivors, the slowest stays."""
        for name, value in news.items():
            before = getattr(self, name)
            setattr(self, name, max(before, value) if name == "slowest_survivor" else before + value)


class Journal:
    """What has been found so far, a line per kill and per run, so that a script that was stopped goes on."""

    def __init__(self, path: Path) -> None:
        self._path, self.figures, self.life = path, Figures(), 0.0
        self._told = time.monotonic()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            self._read(json.loads(line))

    def tell(self, **news: float) -> None:
        now = time.monotonic()
        line = {**news, "minutes": (now - self._told) / 60}
        self._told = now
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._read(line)

    def _read(self, line: dict[str, float]) -> None:
        self.life = line.pop("life", self.life)  # of the run that is never killed
        self.figures.add(line)


def chaos(kills: int, seed: int, folder: Path, minutes: float = math.inf) -> Figures:
    """So many kills, or as many as there is time for, and then to the end."""
    folder.mkdir(parents=True, exist_ok=True)
    began, journal = time.monotonic(), Journal(folder / "trials.jsonl")
    os.environ.setdefault("HMGAN_CACHE", str(folder / "cache"))
    if not journal.life:
        for name in ("data", "source", "whole"):
            shutil.rmtree(folder / name, ignore_errors=True)
        tiny.write_shards(folder / "data"), tiny.write_source(folder / "source")
    shards, source, whole = folder / "data" / "shards", folder / "source", folder / "whole"
    if not journal.life:
        journal.tell(life=until_it_ends(start(whole, shards, source, folder)))
    figures = journal.figures
    while True:
        random_ = random.Random(f"{seed} {figures.kills} {figures.runs}")
        outdir = folder / f"killed-{figures.runs}"
        before = partials(outdir)  # of earlier kills
        ranks = start(outdir, shards, source, folder)
        enough = figures.kills >= kills or time.monotonic() - began > 60 * minutes
        saving = random_.random() < 0.5
        if enough:
            until_it_ends(ranks)
        elif wait_for_the_moment(ranks, outdir, saving, random_, journal.life):
            victims = random_.choice(VICTIMS)
            found = kill(ranks, victims) | look(outdir, before)
            who = {"rank_0": victims == (0,), "rank_1": victims == (1,), "both": len(victims) == RANKS}
            journal.tell(kills=1, meant_for_a_save=saving, **who, **found)
            print(f"{figures.kills} kills, {figures.runs} runs", file=sys.stderr, flush=True)
            continue
        journal.tell(runs=1, equal=same(run_of(whole), run_of(outdir)))
        if enough:
            return figures


def start(outdir: Path, shards: Path, source: Path, folder: Path) -> launched.Ranks:
    """Begins the run, or resumes it."""
    where: list[object] = ["--resume", "latest", "--outdir", outdir]
    if not list(outdir.glob("*/config.json")):  # killed before it had begun
        shutil.rmtree(outdir, ignore_errors=True)
        kimg = 8 * STEPS / 1000
        where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", kimg, *SETTINGS]
    return launched.start(["train", "hyper-mod-b", *where], RANKS, folder / "said")


def until_it_ends(ranks: launched.Ranks) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    assert ranks.codes(1200) == [0] * RANKS, ranks.said()
    return time.monotonic() - began


def partials(outdir: Path) -> set[Path]:
    """Checkpoints that are half written, or half removed."""
    return set(outdir.glob("*/checkpoints/.*.partial"))


def wait_for_the_moment(ranks: launched.Ranks, outdir: Path, saving: bool, random_: random.Random, life: float) -> bool:
    """Whether it has come to kill the run, before that has ended: any moment, or one in the n-th save from now."""
    deadline, saves = time.monotonic() + random_.uniform(0, life), random_.randint(1, SAVES)
    before = partials(outdir)
    seen = before
    while all(process.is_alive() for process in ranks.processes):
        if saving:
            seen = seen | partials(outdir)
            if len(seen - before) >= saves:
                time.sleep(random_.uniform(0, SAVE))
                return True
        elif time.monotonic() > deadline:
            return True
        time.sleep(0.0005)
    until_it_ends(ranks)
    return False


def kill(ranks: launched.Ranks, victims: tuple[int, ...]) -> dict[str, float]:
    """SIGKILL, and the time that the other rank takes to end by itself."""
    for rank in victims:
        with suppress(ProcessLookupError):  # it has just ended by itself
            ranks.signal(rank, signal.SIGKILL)
    began = time.monotonic()
    hung = None in ranks.codes(PATIENCE)
    ranks.kill()
    seconds = time.monotonic() - began if len(victims) < RANKS else 0.0
    return {"survivors_that_hung": hung, "slowest_survivor": seconds}


def look(outdir: Path, before: set[Path]) -> dict[str, float]:
    """Reads every checkpoint that is there."""
    read = [readable(folder) for run in outdir.glob("*/checkpoints") for folder in checkpoint.stored(run)]
    half = bool(partials(outdir) - before)
    return {"while_saving": half, "checkpoints_read": len(read), "unreadable": read.count(False)}


def readable(folder: Path) -> bool:
    try:
        state = json.loads((folder / checkpoint.STATE).read_text(encoding="utf-8"))
        with safe_open(folder / checkpoint.TENSORS, "pt") as file:
            names = len(file.keys())
        return names > 0 and sha256_of(folder / checkpoint.TENSORS) == state["sha256"]
    except Exception as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return False


def same(one: Path, other: Path) -> bool:
    """Networks, averages, optimisers, snapshots, pictures and statistics, and not a file more."""
    if files(one) != files(other):
        print(f"{other}: {files(one) ^ files(other)} in one run only", file=sys.stderr)
        return False
    different = [file for file in files(one) - TIMED if (one / file).read_bytes() != (other / file).read_bytes()]
    if different:
        print(f"{other}: not the same {different}", file=sys.stderr)
    return not different and lines(one) == lines(other)


def files(run: Path) -> set[Path]:
    return {path.relative_to(run) for path in run.rglob("*") if path.is_file() and path.parent.name not in UNLIKE}


def lines(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def run_of(outdir: Path) -> Path:
    (folder,) = (path for path in outdir.iterdir() if (path / "config.json").is_file())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no kill after so many")
    parser.add_argument(
        "--outdir", type=Path, default=Path("chaos"), help="a new folder, or that of a script that was stopped"
    )
    options = parser.parse_args()
    figures = chaos(options.kills, options.seed, options.outdir.absolute(), options.minutes)
    table = Table(box=None)
    for column, side in (("", "left"), ("count", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for name, value in asdict(figures).items():
        table.add_row(name.replace("_", " "), f"{value:.1f}" if type(value) is float else str(value))
    Console().print(table)
    print(json.dumps(asdict(figures)))
    sys.exit(0 if figures.clean else 1)


if __name__ == "__main__":
    main()
