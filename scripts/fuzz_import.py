"""Damages a small file of every foreign format thousands of times and imports each.

    python scripts/fuzz_import.py --count 10000

A file must end in a source or in one line, run nothing, leave nothing, and stay within four times its size beside what
the reader's own objects may take. One line per format says what came of it; exit code 1 if anything else did.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from importers.mutations import MUTATIONS  # noqa: E402
from importers.seeds import files  # noqa: E402

from hmgan.errors import UserError  # noqa: E402
from hmgan.importers.convert import import_checkpoint  # noqa: E402

FIXED = 96 << 20  # bytes of objects that a small file's operations may make, and of the allocator's slack
TIMES = 4


def main() -> None:
    """Fuzzes each format, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="mutations of each format")
    parser.add_argument("--only", help="one format")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bad = 0
    for name, data in files().items():
        if options.only in (None, name):
            bad += fuzz(name, data, options.count, options.seed)
    sys.exit(1 if bad else 0)


def fuzz(name: str, data: bytes, count: int, seed: int) -> int:
    """How many of the mutations ended otherwise than they may."""
    outcomes, slowest, bad = Counter[str](), 0.0, 0
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path, out, canary = (Path(folder) / part for part in ("file", "out", "canary"))
        path.write_bytes(data)
        import_checkpoint(path, out, report=ignore)  # warm, so that what is measured is the files'
        shutil.rmtree(out)
        before = peak()
        base = allocated()
        for index in range(count):
            generator = random.Random(f"{seed} {name} {index}")
            mutation = list(MUTATIONS)[index % len(MUTATIONS)]
            changed = MUTATIONS[mutation](data, generator, canary)
            path.write_bytes(changed)
            limit_memory(base + FIXED + TIMES * len(changed))
            start = time.process_time()
            outcome = attempt(path, out)
            slowest = max(slowest, time.process_time() - start)
            left = sorted(p.name for p in Path(folder).iterdir())
            if canary.exists() or left not in (["file"], ["file", "out"]) or (outcome == "refused" and "out" in left):
                outcome = f"left {left}"
            if outcome not in ("source", "refused"):
                bad += 1
                print(f"{name} {mutation} {index}: {outcome}", flush=True)
            outcomes[outcome] += 1
            shutil.rmtree(out, ignore_errors=True)
    grown = (peak() - before) / 2**20
    counts = ", ".join(f"{value} {key}" for key, value in outcomes.most_common())
    print(
        f"{name}: {counts}; slowest {slowest:.2f} s of CPU; peak RSS +{grown:.0f} MiB; file {len(data)} bytes",
        flush=True,
    )
    return bad


def ignore(report: object) -> None:
    """Instead of printing a report."""


def attempt(path: Path, out: Path) -> str:
    """What came of an import: a source, a refusal in one line, or anything else in words."""
    try:
        import_checkpoint(path, out, report=ignore)
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"more than a line: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "source"


def peak() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def allocated() -> int:
    """Address space that the process has, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def limit_memory(limit: int) -> None:
    """What the process may have in all, in bytes: beyond it, allocations fail."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main()
