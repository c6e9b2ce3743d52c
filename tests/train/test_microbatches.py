"""A batch in microbatches: who caches rows first, what is refused. That the step is the same: tests/dist."""

from __future__ import annotations

import json
import re

import pytest
import tiny
import torch

from hmgan.errors import UserError
from hmgan.losses.adversarial import Logistic
from hmgan.train.prepare import prepare

TWO = ("train.accumulate=2", "train.batch=8", "task.freeze=[]")


def passes(monkeypatch, network):
    """Sizes of the batches that pass through a network, with gradients and without: a list that grows."""
    seen = []
    forward = network.forward

    def count(images, *arguments, **options):
        seen.append((len(images), torch.is_grad_enabled()))
        return forward(images, *arguments, **options)

    monkeypatch.setattr(network, "forward", count)
    return seen


def one_step(monkeypatch, shards, source, folder, *overrides, objective=None):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *TWO, *overrides), folder)
    if objective is not None:
        object.__setattr__(trainer.task.rules, "adversarial", objective)
    seen = passes(monkeypatch, trainer.task.discriminator)
    trainer.take_step(next(trainer.batches()))
    return seen


def test_where_every_sample_has_its_own_loss_no_pass_is_made_twice(shards, source, tmp_path, monkeypatch):
    seen = one_step(monkeypatch, shards, source, tmp_path, "augment=diffaugment")
    assert seen == [(4, True)] * 6  # real and fake of D's phase, fake of G's, of two microbatches


@pytest.mark.parametrize(
    ("overrides", "cached"),
    [
        (("contrastive=dcl",), [(4, False)] * 4),
        (("contrastive=barlow-twins",), [(4, False), (4, False), (8, False), (8, False)] * 2),
        (("regularizer=lecam",), [(4, False)] * 4),
        (("augment=ada",), [(4, False)] * 4),
    ],
)
def test_where_samples_are_compared_a_pass_without_gradients_comes_first(
    overrides, cached, shards, source, tmp_path, monkeypatch
):
    seen = one_step(monkeypatch, shards, source, tmp_path, *overrides)
    assert seen == [*cached, *((size, True) for size, _ in cached), *[(4, True)] * 2]  # and no such pass for G


def test_an_objective_that_does_not_say_may_compare(shards, source, tmp_path, monkeypatch):
    class Theirs:
        disc, gen = Logistic.disc, Logistic.gen

    seen = one_step(monkeypatch, shards, source, tmp_path, objective=Theirs())
    assert [grad for _, grad in seen] == [False] * 4 + [True] * 4 + [False] * 2 + [True] * 2


def test_alignment_in_microbatches_is_alignment(shards, source, tmp_path):
    heads = ("modulation.name=adafm", "modulation.init=align", "train.batch=8")
    losses = []
    for count in (1, 2):
        experiment = tiny.transfer(shards, source, *heads, f"train.accumulate={count}", task="alignment")
        trainer = tiny.make_trainer(experiment, tmp_path)
        for _ in range(3):
            losses.append(float(trainer.take_step(None)["loss/align"].detach()))
            trainer.step += 1
    assert losses[:3] == pytest.approx(losses[3:], rel=1e-4)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ("train.accumulate=3",),
            "train.batch 4 does not divide over 1 ranks of train.accumulate = 3 microbatches; "
            "change --batch or train.accumulate",
        ),
        (("train.accumulate=2",), "stddev_group 4 does not divide the batch of 2; "),
        (("train.accumulate=0",), "train.accumulate should be greater than or equal to 1, got 0"),
    ],
)
def test_a_batch_that_does_not_come_apart_is_refused(overrides, text, shards, source):
    with pytest.raises(UserError, match=rf"^{re.escape(text)}"):
        prepare(tiny.transfer(shards, source, *overrides))


def test_a_deviation_over_the_whole_batch_is_refused_where_the_batch_is_split(shards, tmp_path):
    source = tiny.write_source(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["discriminator"]["stddev_group"] = 0
    (source / "config.json").write_text(json.dumps(config))
    prepare(tiny.transfer(shards, source))
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, "train.accumulate=2"))
    assert str(caught.value) == (
        "D takes its minibatch deviation over the whole batch (stddev_group = 0), got one in 2 shares, of ranks and "
        "train.accumulate, on which it would depend; import the source with --stddev-group 4"
    )


def test_batch_norms_that_would_see_a_microbatch_are_refused(shards):
    experiment = tiny.pretraining(shards, "train.batch=8", "train.accumulate=2", backbone="biggan")
    with pytest.raises(
        UserError, match=r"^batch norms of this backbone see one microbatch's images, got train.accumulate"
    ):
        prepare(experiment)


def test_an_unknown_engine_is_refused_with_the_nearest_one(shards, source):
    with pytest.raises(UserError, match=r"^no engine named 'replicate'; did you mean 'replicated'\?"):
        tiny.transfer(shards, source, "compute.engine=replicate")
