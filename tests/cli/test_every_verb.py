"""Every verb, signalled as soon as it can hear and in its midst: a line, the signal's code, nothing half-written."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import mutated_world
import pytest
from at_work import at_work
from mutated_world import GOOD

pytestmark = pytest.mark.slow
ENDS = {signal.SIGINT: (130,), signal.SIGTERM: (143, 85)}  # 85: a training, which can be gone on with
WITHOUT_END = {"explore": 2.0}  # seconds until it is at work


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "now"
    folder.mkdir()
    mutated_world.build(folder)
    return folder


@pytest.fixture
def run(world, tmp_path, monkeypatch):
    """Runs a command on fresh files, and signals it after some seconds."""
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    master = shutil.copytree(world, tmp_path / "master")

    def ran(words: Sequence[str], number: int, after: float | None) -> tuple[int, str, set[str], float]:
        """Exit code, stderr, names of the files written, seconds."""
        shutil.rmtree(world)
        shutil.copytree(master, world)
        before = mutated_world.contents(world)
        with at_work(words, hears, 60, world) as process:
            began = time.monotonic()
            if after is not None:
                time.sleep(after)
                process.send_signal(number)
            said = process.communicate(timeout=120)[1]
            seconds = time.monotonic() - began
        found = mutated_world.contents(world)
        written = {path for path, digest in found.items() if before.get(path) != digest}
        wrong = {path: why for path in written if (why := mutated_world.unreadable(world / path))}
        assert not wrong, said
        assert before.keys() <= found.keys(), said
        assert "Traceback" not in said
        return process.returncode, said, written, seconds

    yield ran
    shutil.rmtree(world)
    shutil.copytree(master, world)


def hears(process) -> bool:
    """Whether the command catches SIGTERM, which Python alone does not."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("words", [line[0][0] for line in GOOD.values()], ids=list(GOOD))
def test_a_verb_ends_with_a_line_and_the_signals_code_wherever_it_is(words, run):
    if words[0] in WITHOUT_END:
        whole, undisturbed, seconds = None, set(), WITHOUT_END[words[0]]
    else:
        whole, _, undisturbed, seconds = run(words, 0, None)
    for number, share in ((signal.SIGINT, 0.0), (signal.SIGINT, 0.4), (signal.SIGTERM, 0.8)):
        code, said, written, _ = run(words, number, share * seconds)
        if share and code == whole:  # it was faster this time
            assert written == undisturbed
            continue
        assert code in ENDS[number], said
        assert f"by {number.name}" in said.splitlines()[-1]
        assert not any(path.startswith("out") for path in written) or written == undisturbed
