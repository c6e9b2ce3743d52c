"""Transitional cGAN's head: the class fades in over a span of the training, and R1 sees what the game sees."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from hmgan.discriminators.transitional import Transitional
from hmgan.layers.equalized import EqualLinear

LABELS = [2, 0, 1, 1]


def softplus(x):
    return math.log(1 + math.exp(x))


def own_logits(out):
    return [row[c] for row, c in zip(out.class_logits.detach().tolist(), LABELS, strict=True)]


@pytest.fixture
def judged():
    torch.manual_seed(0)
    head = Transitional(5, 3, start=1.0, span=4.0)
    for parameter in head.parameters():
        parameter.data.normal_()
    return head, head(torch.randn(4, 5), torch.tensor(LABELS))


@pytest.mark.parametrize(("kimg", "share"), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.25), (5.0, 1.0), (50.0, 1.0)])
def test_the_class_is_faded_in_over_its_span(judged, kimg, share):
    head, out = judged
    head.at(kimg)
    assert [
        head.terms(out, torch.tensor(LABELS), side)[f"loss/class-{side}"][0] for side in ("real", "fake", "gen")
    ] == [share] * 3
    wanted = [u + share * c for u, c in zip(out.logit.tolist(), own_logits(out), strict=True)]
    assert head.penalised(out, torch.tensor(LABELS)).tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("side", "sign"), [("real", -1), ("fake", 1), ("gen", -1)])
def test_the_classs_game_is_the_logistic_one_on_the_own_logit(judged, side, sign):
    head, out = judged
    _, loss = head.terms(out, torch.tensor(LABELS), side)[f"loss/class-{side}"]
    assert loss.item() == pytest.approx(sum(softplus(sign * own) for own in own_logits(out)) / 4, rel=1e-5)


def test_the_unconditional_logit_is_the_sources_whatever_the_label_and_so_is_every_classs_at_first():
    pretrained, head = EqualLinear(5, 1), Transitional(5, 3)
    head.load_state_dict(head.from_source(pretrained.state_dict()))
    h = torch.randn(4, 5)
    out = head(h, torch.tensor(LABELS))
    torch.testing.assert_close(out.logit, pretrained(h)[:, 0])
    torch.testing.assert_close(out.class_logits, pretrained(h).expand(4, 3))


def test_in_a_training_classes_begin_to_part_when_the_class_comes_in(shards, source, tmp_path):
    """Steps of 4 images: at kimg 0 and 0.004 the class has no part yet, at 0.008 it has half."""
    settings = ("disc_head=transitional", "disc_head.start=0.004", "disc_head.span=0.008")
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *settings), tmp_path)
    batches, rows = trainer.batches(), trainer.task.discriminator.head.per_class.weight
    before = rows.clone()
    for step, moves in enumerate((False, False, True)):
        trainer.step = step
        trainer.take_step(next(batches))
        assert torch.equal(rows, before) != moves
    assert trainer.task.discriminator.head.share == 0.5
