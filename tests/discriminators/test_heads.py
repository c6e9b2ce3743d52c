"""Every head against its naive formula; a pretrained discriminator keeps its judgement, whatever head it gets."""

from __future__ import annotations

from functools import partial

import pytest
import tiny
import torch

from hmgan import components
from hmgan.config import entries
from hmgan.discriminators.heads import AuxiliaryClassifier, LogitPerClass, Projection
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.layers.equalized import EqualLinear
from hmgan.types import DiscOut

HEADS = entries.known("disc-head")
SIDES = ("real", "fake", "gen")
# What moves in a head's second step only. The classes of a mapping are judged alike whatever becomes of its layers only
# if the last one's weight is zero; all that lies before it has no gradient until that one has moved.
LATER = {"mapped-projection": {"mapping.embed", *(f"mapping.fc{i}" for i in range(7))}}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def randomised(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head.double()


def embeddings(batch, width):
    return torch.randn(batch, width, dtype=torch.float64)


def test_projection_is_a_linear_layer_and_the_inner_product_with_the_classs_vector():
    head, h, labels = randomised(Projection(5, 3)), embeddings(4, 5), [2, 0, 1, 1]
    gain = (2 / 5) ** 0.5
    naive = [
        sum(gain * (head.weight[0, f] + head.embedding[c, f]) * h[i, f] for f in range(5)) + head.bias[0]
        for i, c in enumerate(labels)
    ]
    out = head(h, torch.tensor(labels))
    torch.testing.assert_close(out.logit, torch.stack(naive))
    assert torch.equal(out.embedding, h)
    assert out.class_logits is None


def test_the_auxiliary_classifiers_logit_does_not_see_the_label():
    head, h = randomised(AuxiliaryClassifier(5, 3)), embeddings(4, 5)
    first, second = (head(h, torch.tensor(labels)) for labels in ([0, 1, 2, 0], [1, 1, 0, 2]))
    assert torch.equal(first.logit, second.logit)
    gain = (2 / 5) ** 0.5
    torch.testing.assert_close(first.logit, (gain * h @ head.weight.T + head.bias)[:, 0])
    wanted = gain * h @ head.classifier.weight.T + head.classifier.bias
    torch.testing.assert_close(first.class_logits, wanted)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_takes_a_pretrained_row_and_every_class_is_judged_by_it(name):
    pretrained = EqualLinear(5, 1)
    pretrained.bias.data.normal_()
    head = components.build("disc-head", name, 5, 3)
    head.load_state_dict(head.from_source(pretrained.state_dict()))
    h = torch.randn(6, 5)
    out = head(h, torch.tensor([0, 1, 2, 2, 1, 0]))
    torch.testing.assert_close(out.logit, pretrained(h)[:, 0])
    # Classes must be able to part from here.
    loss = out.logit.square().sum() + (0 if out.class_logits is None else out.class_logits.square().sum())
    loss.backward()
    still = {key.rpartition(".")[0] for key, p in head.named_parameters() if not bool(p.grad.abs().sum() > 0)}
    assert still == LATER.get(name, set())


def test_a_mapped_projection_parts_classes_in_its_first_step_and_learns_whole_from_its_second():
    pretrained = EqualLinear(5, 1)
    head = components.build("disc-head", "mapped-projection", 5, 3)
    head.load_state_dict(head.from_source(pretrained.state_dict()))
    h, labels = torch.randn(1, 5).expand(3, 5), torch.arange(3)
    for step in range(2):
        head.zero_grad()
        head(h, labels).logit.mul(torch.tensor([1.0, 0.0, -2.0])).sum().backward()
        with torch.no_grad():
            for p in head.parameters():
                p -= p.grad
        assert len(set(head(h, labels).logit.tolist())) == 3, f"after step {step}"
    assert all(bool(p.grad.abs().sum() > 0) for p in head.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_a_transfer_begins_with_the_sources_own_judgement(name, shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, f"disc_head={name}"), tmp_path)
    choice, state = load_source(str(source)).discriminator
    alone = components.build("discriminator", choice.name, 1, **choice.options)
    alone.load_state_dict(state)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([2, 0, 1, 1])
    ours = trainer.task.discriminator(images, labels).logit
    torch.testing.assert_close(ours, alone(images, torch.zeros_like(labels)).logit)


def test_a_new_projection_tells_classes_apart_from_the_start():
    network = components.build(
        "discriminator", "stylegan1", 3, partial(components.build, "disc-head", "projection"), **tiny.DISCRIMINATOR
    )
    images = torch.randn(1, 3, 8, 8).expand(4, -1, -1, -1)
    logits = network(images, torch.tensor([0, 1, 2, 0])).logit
    assert logits[0] == logits[3]
    assert len(set(logits.tolist())) == 3


def test_the_classification_loss_is_the_cross_entropy_of_the_own_class():
    logit_BN = torch.randn(4, 3, dtype=torch.float64)
    labels = [2, 0, 1, 1]
    naive = -sum(float(row[c] - row.exp().sum().log()) for row, c in zip(logit_BN, labels, strict=True)) / 4
    out = DiscOut(torch.zeros(4), torch.zeros(4, 2), logit_BN)
    head = components.build("disc-head", "auxiliary-classifier", 2, 3, class_weight=0.5, class_fakes=False)
    for side in ("real", "gen"):
        weight, loss = head.terms(out, torch.tensor(labels), side)[f"loss/class-{side}"]
        assert weight == 0.5
        assert float(loss) == pytest.approx(naive)
    assert head.terms(out, torch.tensor(labels), "fake") == {}


def test_gs_classification_loss_may_have_a_weight_of_its_own():
    out = DiscOut(torch.zeros(4), torch.zeros(4, 2), torch.randn(4, 3))
    for given, wanted in (({}, 0.5), ({"gen_class_weight": 0.125}, 0.125), ({"gen_class_weight": 0.0}, 0.0)):
        head = components.build("disc-head", "auxiliary-classifier", 2, 3, class_weight=0.5, **given)
        weights = [weight for side in SIDES for weight, _ in head.terms(out, torch.arange(4) % 3, side).values()]
        assert weights == [0.5, 0.5, wanted]


def test_the_discriminator_classifies_real_and_fake_and_the_generator_is_pulled_to_its_class(shards, source, tmp_path):
    wanted = {"loss/class-real", "loss/class-fake", "loss/class-gen"}
    for weight in (0.0, 1.0):
        overrides = ("disc_head=auxiliary-classifier", f"disc_head.class_weight={weight}", "task.freeze=[]")
        trainer = tiny.make_trainer(tiny.transfer(shards, source, *overrides), tmp_path)
        before = [p.clone() for p in trainer.task.discriminator.head.classifier.parameters()]
        assert wanted <= trainer.take_step(next(trainer.batches())).keys()
        after = list(trainer.task.discriminator.head.classifier.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) == bool(weight)


def test_the_classifier_may_learn_of_real_images_alone(shards, source, tmp_path):
    trainer = tiny.make_trainer(
        tiny.transfer(shards, source, "disc_head=auxiliary-classifier", "disc_head.class_fakes=false"), tmp_path
    )
    named = {name for name in trainer.take_step(next(trainer.batches())) if name.startswith("loss/class")}
    assert named == {"loss/class-real", "loss/class-gen"}


def test_a_head_for_classes_is_refused_where_there_are_none(shards):
    with pytest.raises(UserError) as caught:
        tiny.prepare(tiny.pretraining(shards, "disc_head=projection"))
    wanted = "disc_head 'projection' needs 2 classes or more, got 1; take --set disc_head=logit-per-class"
    assert str(caught.value) == wanted


def test_a_source_whose_head_has_classes_is_not_taken_for_a_single_row():
    conditional = LogitPerClass(5, 3)
    head = Projection(5, 3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        head.load_state_dict(head.from_source(conditional.state_dict()))
