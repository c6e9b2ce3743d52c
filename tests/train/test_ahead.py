"""Numbers drawn one step ahead are the step's own, whoever takes it; the thread that draws them comes to an end."""

from __future__ import annotations

import threading

import pytest
import tiny
import torch

from hmgan import ahead, rng
from hmgan.ahead import Ahead
from hmgan.train.draws import Draws
from hmgan.train.tasks.alignment import aligning

AHEAD = "compute.ahead=true"
VIEWS = ("contrastive=barlow-twins", "loader.mirror=true", "task.mixing=0.9", "task.freeze=[]")
CASES = {
    "views": VIEWS,
    "microbatches": (*VIEWS, "train.batch=8", "train.accumulate=2"),
    "ada": ("augment.name=ada", "augment.start=0.5"),
    "anchors": (),
    "labels": (),
    "path lengths": ("task.path_length=2.0", "task.path_every=2"),
}


def made(case, shards, source, folder, *more):
    if case == "path lengths":
        return tiny.make_trainer(tiny.pretraining(shards, *CASES[case], *more, backbone="stylegan2"), folder)
    name = "cdc" if case == "anchors" else "hyper-mod-c" if case == "labels" else "hyper-mod-b"
    experiment = tiny.transfer(shards, source, *CASES[case], *more, name=name)
    return tiny.make_trainer(aligning(experiment) if case == "labels" else experiment, folder)


def taken(trainer, steps):
    batches = trainer.batches()
    for _ in range(steps):
        trainer.take_step(next(batches))
        trainer.step += 1
    trainer.settle()
    return [x.clone() for entry in trainer.task.stateful() for x in entry.state_dict().values()]


def equal(one, other):
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


@pytest.fixture
def drawers(monkeypatch):
    """The names of the threads that have drawn normals, in a list that grows."""
    names, draw = [], rng.normal_rows

    def noted(keys, width):
        names.append(threading.current_thread().name.partition("_")[0])
        return draw(keys, width)

    monkeypatch.setattr(rng, "normal_rows", noted)
    return names


@pytest.mark.parametrize("case", CASES)
def test_steps_are_the_same_to_the_bit(case, shards, source, tmp_path, drawers):
    wanted = taken(made(case, shards, source, tmp_path), 3)
    assert "draws" not in drawers
    assert equal(taken(made(case, shards, source, tmp_path, AHEAD), 3), wanted)
    assert "draws" in drawers


@pytest.mark.parametrize("case", ["views", "microbatches"])
def test_only_the_first_step_waits_for_its_draws(case, shards, source, tmp_path, drawers):
    trainer = made(case, shards, source, tmp_path, AHEAD)
    taken(trainer, 1)
    first = drawers.count("MainThread")
    taken(trainer, 3)
    assert drawers.count("MainThread") == first > 0


def test_a_resumed_run_draws_the_same(shards, source, tmp_path):
    wanted = taken(made("views", shards, source, tmp_path / "whole"), 4)
    broken = made("views", shards, source, tmp_path / "broken", AHEAD)
    taken(broken, 2)
    with broken.saver:
        broken.save()
    (folder,) = (tmp_path / "broken" / "checkpoints").iterdir()
    resumed = made("views", shards, source, tmp_path / "resumed", AHEAD)
    resumed.resume(folder)
    assert equal(taken(resumed, 2), wanted)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_expects_its_own_share_of_the_next_step(rank):
    this, following = (Draws(3, step, 8 * step + 4 * rank, 4, total=8) for step in (5, 6))
    draws, seen = Ahead(torch.device("cpu")), []

    def make(keys):
        seen.append((list(keys), threading.current_thread() is threading.main_thread()))

    with draws:
        for each in (this, following):
            with draws.step():
                ahead.drawn(make, each.keys("disc"))
    assert (following.keys("disc"), False) in seen
    assert [keys for keys, here in seen if here] == [this.keys("disc")]


def test_what_was_not_expected_is_drawn_by_the_step_itself():
    with Ahead(torch.device("cpu")) as draws, draws.step():
        assert ahead.drawn(rng.uniform_rows, [5], 2).equal(rng.uniform_rows([5], 2))


def test_an_error_in_the_thread_is_the_next_steps():
    def make(keys):
        if keys == (2,):
            raise ValueError("cannot draw 2")

    with Ahead(torch.device("cpu")) as draws:
        with draws.step():
            ahead.follow([1], lambda: [2])
            ahead.drawn(make, [1])
        with draws.step(), pytest.raises(ValueError, match="cannot draw 2"):
            ahead.drawn(make, [2])


def test_the_thread_ends_with_the_training_and_with_its_errors(shards, source, tmp_path, monkeypatch):
    before, trainer = set(threading.enumerate()), made("views", shards, source, tmp_path, AHEAD)
    draw = trainer.take_step
    monkeypatch.setattr(trainer, "take_step", lambda batch: (draw(batch), seen.update(threading.enumerate()))[0])
    seen = set()
    monkeypatch.setattr(trainer, "_after_step", lambda *_: 1 / 0)
    log = type("Log", (), {"start": lambda *_: None, "say": lambda *_: None})()
    with pytest.raises(ZeroDivisionError):
        trainer.train(log)
    (thread,) = seen - before
    assert not thread.is_alive()
