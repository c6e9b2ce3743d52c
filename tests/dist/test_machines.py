"""Machines that leave and join under launch/torchrun.sh: the run goes on in what is left, and trains what one does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import comes_and_goes
import launched
import psutil
import pytest
import test_elastic
import tiny
from test_elastic import BATCH, IMAGES, IN_FLOAT64, SETTINGS, STEPS

from hmgan.files import launch_file
from hmgan.train.distributed.signals import REQUEUE

DEADLINE = 900  # seconds; on a machine at rest it is a minute


class Step(NamedTuple):
    """A rank's begin of a step."""

    time: float
    round: str  # of torchrun's: the port at which its ranks met
    world: int
    step: int
    rank: int
    images: list[str]


class Machines:
    """Agents of torchrun with one rank each, as if each were a machine."""

    def __init__(self, folder: Path, words: list[object], most: int = 2) -> None:
        folder.mkdir()
        self.folder, self.words, self.agents = folder, [str(word) for word in words], []
        here = Path(__file__).parent
        paths = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "NODES": f"1:{most}",
            "GPUS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(launched.free_port()),
            "PET_LOCAL_ADDR": "127.0.0.1",
            "PET_RDZV_CONF": "last_call_timeout=5",  # seconds for more machines to come
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHON": launched.python_of(folder, "comes_and_goes"),
            "PYTHONPATH": os.pathsep.join(paths),
            "DRAWN": str(folder),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Of all that start, the first is the one where they meet."""
        if self.agents:
            self.until(self.listening)
        with (self.folder / f"said{len(self.agents)}.txt").open("w") as said:
            words = ["bash", str(launch_file("torchrun.sh")), *self.words]
            self.agents.append(subprocess.Popen(words, env=self.environment, stdout=said, stderr=said))
        return self.agents[-1]

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("said*.txt")))

    def drawn(self) -> list[Step]:
        lines = [line for path in self.folder.glob("drawn-*.jsonl") for line in path.read_text().splitlines(True)]
        return sorted(Step(*json.loads(line)) for line in lines if line.endswith("\n"))

    def listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self.environment["MASTER_PORT"]))).close()
        except OSError:
            return False
        return True

    def reached(self, world: int, step: int) -> None:
        """Waits until all of so many ranks are in a step."""
        self.until(lambda: sum((each.world, each.step) == (world, step) for each in self.drawn()) >= world)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert all(agent.poll() is None for agent in self.agents), self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def free(self) -> None:
        """From now on no step is held."""
        (self.folder / "free").touch()

    def end(self) -> None:
        for agent in self.agents:
            lose(agent)


def lose(agent: subprocess.Popen[bytes]) -> None:
    """As a machine is lost: the agent and its rank in one moment, without a word to anybody."""
    if agent.poll() is None:
        for process in [*psutil.Process(agent.pid).children(recursive=True), agent]:
            process.send_signal(signal.SIGKILL)
        agent.wait()


@pytest.fixture
def machines(shards, source, tmp_path):
    made = Machines(tmp_path / "moved", words(shards, source, tmp_path / "moved", BATCH))
    yield made
    made.end()


@pytest.fixture
def three(shards, source, tmp_path):
    """Machines of which two take the batch, with a checkpoint after every second step."""
    more = tiny.options(train__batch=8, train__snap=0.016)
    made = Machines(tmp_path / "moved", [*words(shards, source, tmp_path / "moved", 8), *more], most=3)
    yield made
    made.end()


def words(shards: Path, source: Path, folder: Path, batch: int) -> list[object]:
    where = ["--data", shards, "--source", source, "--outdir", folder / "runs", "--resume", "auto"]
    return ["train", "hyper-mod-b", *where, "--kimg", STEPS * batch / 1000, *SETTINGS]


def rank_of(agent: subprocess.Popen[bytes]) -> int:
    (rank,) = psutil.Process(agent.pid).children()
    return int(rank.environ()["RANK"])


def equals_one_process(machines, shards, source, tmp_path, capsys, told):
    """The end, to rounding, and each image once an epoch; of each step what was done last counts."""
    assert len(list((machines.folder / "runs").iterdir())) == 1  # the same run
    (tmp_path / "alone").mkdir()
    expected = test_elastic.alone(tmp_path / "alone", shards, source, test_elastic.in_float64)
    last = {each.step: each.round for each in machines.drawn()}
    kept = sorted((each.step, each.rank, each.images) for each in machines.drawn() if each.round == last[each.step])
    images = [image for _, _, images in kept for image in images]
    assert len(images) == STEPS * BATCH
    epochs = [Counter(images[first : first + IMAGES]) for first in range(0, len(images), IMAGES)]
    assert all(len(epoch) == IMAGES for epoch in epochs)
    worst, name = test_elastic.largest_difference(test_elastic.finished(machines.folder), expected)
    with capsys.disabled():
        print(f"\n{told}; {worst:.1e} of the largest entry of {name}")
    assert worst < IN_FLOAT64


@pytest.mark.slow
def test_a_machine_is_lost_and_the_other_goes_on_alone_from_the_newest_checkpoint(
    machines, shards, source, tmp_path, capsys
):
    first, second = machines.start(), machines.start()
    held = comes_and_goes.HELD[2]
    machines.reached(2, held)
    lose(second)
    lost = time.time()
    machines.free()
    assert first.wait(DEADLINE) == 0, machines.said()
    after = [each for each in machines.drawn() if each.time > lost]
    assert {each.world for each in after} == {1}
    assert [each.step for each in after] == list(range(held - held % 2, STEPS))  # there is one after every second step
    equals_one_process(
        machines, shards, source, tmp_path, capsys, f"2 -> 1 machines: {after[0].time - lost:.0f} s later"
    )


@pytest.mark.slow
def test_a_machine_that_is_told_to_leave_saves_and_nothing_is_done_twice(machines):
    first, second = machines.start(), machines.start()
    machines.reached(2, comes_and_goes.HELD[2])
    second.send_signal(signal.SIGTERM)
    time.sleep(2.0)  # until its rank has it too
    machines.free()
    assert [first.wait(DEADLINE), second.wait(DEADLINE)] == [0, REQUEUE], machines.said()
    alone = {each.step for each in machines.drawn() if each.world == 1}
    together = {each.step for each in machines.drawn() if each.world == 2}
    assert sorted([*together, *alone]) == list(range(STEPS))
    assert max(together) < max(alone)
    assert len(list((machines.folder / "runs").iterdir())) == 1


@pytest.mark.slow
def test_a_machine_joins_and_the_run_goes_on_with_both_where_it_was(machines, shards, source, tmp_path, capsys):
    first = machines.start()
    held = comes_and_goes.HELD[1]
    machines.reached(1, held)
    began, second = time.time(), machines.start()
    machines.reached(2, held + 1)
    machines.free()
    assert [first.wait(DEADLINE), second.wait(DEADLINE)] == [0, 0], machines.said()
    steps = [(each.step, each.world) for each in machines.drawn()]
    together = [(step, 2) for step in range(held + 1, STEPS) for _ in range(2)]
    assert sorted(steps) == [*((step, 1) for step in range(held + 1)), *together]  # nothing is done twice
    waited = min(each.time for each in machines.drawn() if each.world == 2) - began
    equals_one_process(machines, shards, source, tmp_path, capsys, f"1 -> 2 machines: {waited:.0f} s later")


@pytest.mark.slow
def test_a_machine_that_stood_aside_trains_once_another_is_lost(three):
    agents = [three.start() for _ in range(3)]
    three.until(lambda: "1 of 3 ranks stand aside" in three.said())
    three.reached(2, comes_and_goes.HELD[2])
    ranks = [rank_of(agent) for agent in agents]
    assert sorted(ranks) == [0, 1, 2]
    victim = next(agent for agent, rank in zip(agents[1:], ranks[1:], strict=True) if rank < 2)
    lose(victim)
    lost = time.time()
    three.free()
    assert [agent.wait(DEADLINE) for agent in agents if agent is not victim] == [0, 0], three.said()
    after = [(each.step, each.rank) for each in three.drawn() if each.time > lost]
    assert sorted(set(after)) == [(step, rank) for step in range(min(after)[0], STEPS) for rank in range(2)]
    assert 0 < min(after)[0] <= comes_and_goes.HELD[2] + 1
    assert len(list((three.folder / "runs").iterdir())) == 1
