"""ADC-GAN's head against its formulas, written out per sample."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from hmgan import components
from hmgan.discriminators.adc import DiscriminativeClassifier

LABELS = [2, 0, 1, 1]


@pytest.fixture
def judged():
    """A head with random weights, and what it makes of four embeddings."""
    torch.manual_seed(0)
    head = DiscriminativeClassifier(5, 3, class_weight=0.5, gen_class_weight=0.125).double()
    for parameter in head.parameters():
        parameter.data.normal_()
    return head, head(torch.randn(4, 5, dtype=torch.float64), torch.tensor(LABELS))


def test_it_classifies_real_and_fake_classes_from_the_embedding_and_its_logit_does_not_see_the_label(judged):
    head, out = judged
    gain = (2 / 5) ** 0.5
    assert out.class_logits.shape == (4, 6)
    torch.testing.assert_close(out.class_logits, gain * out.embedding @ head.classifier.weight.T + head.classifier.bias)
    torch.testing.assert_close(out.logit, (gain * out.embedding @ head.weight.T + head.bias)[:, 0])
    assert torch.equal(head(out.embedding, torch.tensor([0, 1, 2, 0])).logit, out.logit)


@pytest.mark.parametrize(("side", "offset"), [("real", 0), ("fake", 3)])
def test_d_learns_a_real_image_as_real_of_its_class_and_a_fake_as_fake_of_its_class(judged, side, offset):
    head, out = judged
    rows = out.class_logits.detach().tolist()
    naive = -sum(
        row[offset + c] - math.log(sum(map(math.exp, row))) for row, c in zip(rows, LABELS, strict=True)
    ) / len(rows)
    ((name, (weight, loss)),) = head.terms(out, torch.tensor(LABELS), side).items()
    assert (name, weight) == (f"loss/class-{side}", 0.5)
    assert loss.item() == pytest.approx(naive)


def test_g_is_pulled_to_the_real_class_and_away_from_the_fake_one(judged):
    head, out = judged
    rows = out.class_logits.detach().tolist()
    naive = sum(
        math.log(math.exp(row[3 + c]) / sum(map(math.exp, row))) - math.log(math.exp(row[c]) / sum(map(math.exp, row)))
        for row, c in zip(rows, LABELS, strict=True)
    ) / len(rows)
    weight, loss = head.terms(out, torch.tensor(LABELS), "gen")["loss/class-gen"]
    assert weight == 0.125
    assert loss.item() == pytest.approx(naive)


def test_gs_weight_is_ds_unless_it_has_its_own():
    assert components.build("disc-head", "adc", 5, 3, class_weight=0.75).gen_class_weight == 0.75


def test_a_step_trains_the_classifier_and_reports_all_three_terms(shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, "disc_head=adc"), tmp_path)
    before = trainer.task.discriminator.head.classifier.weight.clone()
    stats = trainer.take_step(next(trainer.batches()))
    assert {"loss/class-real", "loss/class-fake", "loss/class-gen"} <= stats.keys()
    after = trainer.task.discriminator.head.classifier.weight
    assert (before != after).any(1).all()  # a row of each real and each fake class
