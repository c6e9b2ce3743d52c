"""A loss or gradient that is not finite never reaches an optimiser; the run stops, or leaves the phase out."""

from __future__ import annotations

import copy
import json
import re

import pytest
import tiny
import torch
from torch.utils._pytree import tree_leaves

from hmgan import host
from hmgan.data.order import Order, indices
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.engines.replicated import Replicated
from hmgan.train.log import RunLog
from hmgan.train.tasks import alignment, gan

SKIP = 'train.on_nonfinite="skip"'


def spoil(monkeypatch, phase, steps, how="loss"):
    """The phase's loss is nan, or its gradient alone is, in those steps."""
    where, name = {
        "D": (gan, "disc_loss"),
        "G": (gan, "gen_loss"),
        "align": (alignment.Alignment, "loss"),
    }[phase]
    original = getattr(where, name)

    def spoilt(*args):
        loss, stats = original(*args)
        if args[-2].draws.step in steps:  # a loss ends with its microbatch and how to gather
            # The square root of zero: a value of 0, and a slope that is not finite.
            loss = loss * torch.nan if how == "loss" else loss + (0 * loss).abs().sqrt()
            stats = {key: value * torch.nan for key, value in stats.items()} if how == "loss" else stats
        return loss, stats

    monkeypatch.setattr(where, name, spoilt)


def weights(*networks):
    return [copy.deepcopy(network.state_dict()) for network in networks]


def same(a, b):
    return all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


@pytest.fixture
def trainer(shards, source, tmp_path):
    def make(*overrides, **extra):
        return tiny.make_trainer(tiny.transfer(shards, source, *overrides, **extra), tmp_path)

    return make


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("phase", ["D", "G"])
def test_a_spoilt_phase_stops_the_run_and_names_phase_step_and_images(phase, how, trainer, shards, monkeypatch):
    spoil(monkeypatch, phase, {0}, how)
    trainer = trainer("train.seed=3")
    network = trainer.task.critic if phase == "D" else trainer.task.generator.trained
    before = weights(network)
    with pytest.raises(UserError) as caught:
        trainer.take_step(next(trainer.batches()))
    assert same(before, weights(network))
    text = str(caught.value)
    assert "\n" not in text
    what = "loss/[DG] is nan.*" if how == "loss" else "the gradient is not finite"
    advice = 'lower optimizer.lr, or leave such phases out with train.on_nonfinite = "skip"'
    images = re.fullmatch(rf"step 0, {phase} phase: {what}; images (.*); {advice}", text)[1]
    data = ShardSet(shards)
    for i in indices(Order([len(data)], seed=3), 0, batch_per_rank=4, rank=0, world=1):
        shard, key = data.place(i)
        assert re.fullmatch(rf"image {key} at byte \d+ in shard \S+/{shard}", data._where(i))
        assert re.search(rf"{shard}: [^,]*{key}", images)


def test_an_alignment_has_no_images_to_name(trainer, monkeypatch):
    spoil(monkeypatch, "align", {0})
    with pytest.raises(UserError, match=r"^step 0, align phase: loss/align is nan; lower"):
        trainer(task="alignment").take_step(None)


@pytest.mark.parametrize("phase", ["D", "G"])
def test_a_phase_that_is_left_out_leaves_no_trace_and_the_other_is_trained(phase, trainer, monkeypatch):
    spoil(monkeypatch, phase, {1})
    more = ("regularizer=lecam", "augment.name=ada", "augment.start=0.5", "augment.every=1", "augment.kimg=0.02")
    trainer = trainer(SKIP, *more)
    stream = trainer.batches()
    trainer.take_step(next(stream))
    trainer.step += 1
    disc = (
        trainer.task.critic,
        trainer.task.disc_optimizer,
        trainer.task.penalties.regularizer,
        trainer.task.rules.augment,
    )
    gen = (trainer.task.generator.trained, trainer.task.gen_optimizer, trainer.task.ema)
    spoilt, other = (disc, gen) if phase == "D" else (gen, disc)
    before, before_other = weights(*spoilt[::2], *spoilt[3:]), weights(other[0])
    moments = {k: v["step"].clone() for k, v in spoilt[1].state_dict()["state"].items()}
    trainer.take_step(next(stream))
    assert same(before, weights(*spoilt[::2], *spoilt[3:]))
    assert {k: v["step"] for k, v in spoilt[1].state_dict()["state"].items()} == moments
    assert not same(before_other, weights(other[0]))
    assert trainer.nonfinite.counts() == {"nonfinite/skipped": 1}


def test_what_is_skipped_is_said_counted_and_resumed(shards, source, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, "G", {1, 4})
    settings = tiny.options(train__batch=4, train__tick=0.004, train__snap=0.012, train__trackers='["tensorboard"]')
    where = ["--data", shards, "--source", source, "--set", SKIP, *settings]
    assert tiny.command("train", "hyper-mod-b", *where, "--outdir", tmp_path, "--kimg", 0.012) == 0
    (folder,) = tmp_path.iterdir()
    assert tiny.command("train", "hyper-mod-b", "--resume", folder, "--kimg", 0.024) == 0
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["nonfinite/skipped"] for line in lines] == [0, 1, 1, 1, 2, 2]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert [
        re.match(r"warning: step (\d), G phase: loss/G is nan; images .*; left out$", line)[1] for line in said
    ] == [
        "1",
        "4",
    ]


def test_too_many_in_a_row_stop_the_run(trainer, monkeypatch):
    spoil(monkeypatch, "D", {0, 2, 3, 4})
    trainer = trainer(SKIP, "train.nonfinite_row=2")
    stream = trainer.batches()
    for _ in range(4):
        trainer.take_step(next(stream))
        trainer.step += 1
    with pytest.raises(UserError, match=r"^step 4, D phase: .*; train.nonfinite_row allows 2 such steps in a row$"):
        trainer.take_step(next(stream))


def step(runtime, network, optimizer):
    trained = Replicated(runtime).trained(network, optimizer, 1)
    loss = network(torch.ones(1, 2)).sum()
    trained.backward(loss, last=True)
    return not trained.step(loss.detach())[0].isfinite()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, -2], ids=["gradient", "loss"])
def test_what_is_not_finite_on_another_rank_is_left_out_here_too(value, place, monkeypatch):
    runtime = Runtime()
    monkeypatch.setattr(Runtime, "world", 2)

    def from_both(flat):
        flat.mul_(2)
        flat[place] = value

    monkeypatch.setattr(torch.distributed, "all_reduce", from_both)
    network = torch.nn.Linear(2, 1)
    before = weights(network)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    assert step(runtime, network, optimizer)
    assert same(before, weights(network))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    assert not step(runtime, network, optimizer)
    assert not same(before, weights(network))


def test_only_the_first_images_of_a_large_batch_are_named(trainer, monkeypatch):
    spoil(monkeypatch, "D", {0})
    trainer = trainer("train.batch=72")
    with pytest.raises(UserError) as caught:
        trainer.take_step(next(trainer.batches()))
    images = re.search(r"; images (.*) and 8 more; ", str(caught.value))[1]
    assert len(re.findall(r"(?:ant|bee|cat)\S*", images)) == 64


@pytest.mark.parametrize("phase", ["D", "G"])
def test_a_device_that_runs_behind_leaves_out_the_same_phases_and_ends_with_the_same_numbers(
    phase, trainer, monkeypatch
):
    spoil(monkeypatch, phase, {0, 2})
    read = []
    monkeypatch.setattr(host.Later, "read", lambda self, real=host.Later.read: (read.append(1), real(self))[1])
    ended = []
    for late in (False, True):
        made = trainer(SKIP, "regularizer=lecam", "augment.name=ada", "augment.start=0.5", "augment.every=1")
        made.late, batches = late, made.batches()
        for made.step in range(4):
            read.clear()
            made.take_step(next(batches))
            assert len(read) == (2 if made.step or not late else 0)  # of this step, or of the one before
        made.settle()
        ended.append((weights(*made.task.kept().values()), made.nonfinite.state()))
    (one, counts), (other, theirs) = ended
    assert counts == theirs == [2, 1, 2]
    pairs = list(zip(tree_leaves(one), tree_leaves(other), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs if isinstance(a, torch.Tensor))
    assert sum(isinstance(a, torch.Tensor) for a, _ in pairs) > 100


def test_a_device_that_runs_behind_ends_the_run_a_step_later_and_before_anything_is_saved(trainer, monkeypatch):
    spoil(monkeypatch, "D", {0})
    made = trainer()
    made.late, batches = True, made.batches()
    before = weights(made.task.critic)
    made.take_step(next(batches))
    made.step += 1
    assert same(before, weights(made.task.critic))
    with pytest.raises(UserError, match=r"^step 0, D phase: loss/D is nan, .*; images "):
        made.take_step(next(batches))
    assert same(before, weights(made.task.critic))
    made = trainer("train.kimg=0.004")
    made.late = True
    with RunLog(None, 0.004) as log, pytest.raises(UserError, match=r"^step 0, D phase: "):
        made.train(log)
    assert not list((made.folder / "checkpoints").glob("*/state.json"))


def test_an_optimiser_that_takes_no_flag_does_not_step_on_what_is_not_finite():
    network = torch.nn.Linear(2, 1)
    before = weights(network)
    trained = Replicated(Runtime()).trained(network, torch.optim.SGD(network.parameters(), lr=1.0), 1)
    for value in (torch.nan, 1.0):
        loss = value * network(torch.ones(1, 2)).sum()
        trained.backward(loss, last=True)
        trained.step(loss.detach())
        assert same(before, weights(network)) == (value != 1.0)
