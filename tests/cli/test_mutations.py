"""Any verb on any command line and any files: exit 2 and one line, or a right result; in bounded memory and time.

    python -m pytest -m slow -s tests/cli/test_mutations.py

prints how often each verb ended how. `--hypothesis-seed=N` draws other changes.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import mutated_world
import mutations
import pytest
from bounded import Server
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutated_world import GOOD

FAST, SLOW = 4, 150  # examples: of all verbs together; of each verb, of command lines and of files
UNHEALTHY = 1  # what `hmgan doctor` ends with where the machine is not fit
# What a training says first: what ends it after that leaves the run directory, to go on from.
BEGUN, RUNS = "G trains", ("run/", "runs/", "demo/")
QUICK = ["list", "show", "pack", "index", "inspect", "verify", "sample", "interpolate", "export", "launch"]


class World:
    """Runs commands, each on the same files, and judges how they end."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.master, self.server = folder / "a" / "now", folder / "master", server
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.folder.mkdir(parents=True)
        mutated_world.build(self.folder)
        shutil.copytree(self.folder, self.master)

    def renew(self) -> None:
        shutil.rmtree(self.folder.parent)
        shutil.copytree(self.master, self.folder)

    def judge(self, verb: str, words: list[str]) -> None:
        """Runs it; fails where it ends as no command may end."""
        before = mutated_world.contents(self.folder)
        got = self.server.run(words, self.folder)
        after = mutated_world.contents(self.folder)
        written = [path for path in after if after[path] != before.get(path)]
        said = (
            f"{words}: exit {got.code} after {got.seconds:.1f} s; wrote {written}\n{got.out[-500:]}\n{got.err[-3000:]}"
        )
        allowed = (0, 2, UNHEALTHY) if verb == "doctor" else (0, 2)
        assert got.code in allowed, said
        assert "Traceback" not in got.out + got.err, said
        if got.code == 2:
            errors = [line for line in got.err.splitlines() if line.startswith("error: ")]
            assert errors == got.err.splitlines()[-1:], said
            own = RUNS if BEGUN in got.err else ()
            assert all(path.startswith(own) for path in written), said
            assert before.keys() <= after.keys(), said
        wrong = [f"{path}: {why}" for path in written if (why := mutated_world.unreadable(self.folder / path))]
        assert not wrong, f"{wrong}\n{said}"
        outcome = "a right result" if got.code != 2 else "one line"
        if "not enough memory" in got.err:
            outcome = "one line: memory"
        self.counts[verb][outcome] += 1


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patched, Server() as server:
        patched.setenv("HMGAN_CACHE", str(folder / "cache"))
        patched.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        made = World(folder, server)
        yield made
    outcomes = ["a right result", "one line", "one line: memory"]
    print("\n" + "".join(f"{name:>18}" for name in ["verb", *outcomes]))
    for verb, counts in made.counts.items():
        print(f"{verb:>18}" + "".join(f"{counts[outcome]:>18}" for outcome in outcomes))


def examples(count: int, *, fixed: bool) -> settings:
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = (Phase.generate, Phase.explicit)  # to shrink an example takes longer than to read it
    return settings(
        max_examples=count, deadline=None, database=None, derandomize=fixed, suppress_health_check=quiet, phases=phases
    )


def of_a_line(world: World, verb: str, data: st.DataObject) -> None:
    words, _ = data.draw(st.sampled_from(GOOD[verb]))
    changed = data.draw(mutations.lines(words))
    world.renew()
    world.judge(verb, changed)


def of_a_file(world: World, verb: str, data: st.DataObject) -> None:
    words, read = data.draw(st.sampled_from([line for line in GOOD[verb] if line[1]]))
    world.renew()
    files = sorted(path for path in world.folder.glob(read) if path.is_file() and ".claims" not in path.parts)
    path = data.draw(st.sampled_from(files))
    path.write_bytes(data.draw(mutations.contents(path.read_bytes(), path.name)))
    world.judge(verb, words)


CHANGES = {"line": of_a_line, "file": of_a_file}
READING = [verb for verb, lines in GOOD.items() if any(read for _, read in lines)]


@examples(FAST, fixed=True)
@given(data=st.data())
@pytest.mark.parametrize("change", CHANGES)
def test_a_few_changes_of_what_is_good_end_in_one_line_or_a_right_result(world, change, data):
    CHANGES[change](world, data.draw(st.sampled_from([verb for verb in QUICK if verb in READING])), data)


@pytest.mark.slow
@pytest.mark.parametrize("verb", GOOD)
def test_changed_command_lines_end_in_one_line_or_a_right_result(world, verb):
    examples(SLOW, fixed=False)(given(data=st.data())(lambda data: of_a_line(world, verb, data)))()


@pytest.mark.slow
@pytest.mark.parametrize("verb", READING)
def test_changed_files_end_in_one_line_or_a_right_result(world, verb):
    examples(SLOW, fixed=False)(given(data=st.data())(lambda data: of_a_file(world, verb, data)))()


def test_what_is_good_is_done(world):
    for verb in QUICK:
        words, _ = GOOD[verb][0]
        world.renew()
        assert world.server.run(words, world.folder).code == 0, words
