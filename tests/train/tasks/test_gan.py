"""What a phase touches: D's never reaches G, its fakes are made once, and both sides have views."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.losses.dcl import dual_contrastive
from hmgan.train import draws
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.tasks import gan_losses


@pytest.fixture
def trainer(shards, source, tmp_path):
    return lambda *overrides: tiny.make_trainer(tiny.transfer(shards, source, "task.mixing=0.5", *overrides), tmp_path)


def disc_loss(trainer, step=1):
    batch = next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0)))
    trainer.step = step
    (microbatch,) = trainer.microbatches(batch)
    task = trainer.task
    opponents = gan_losses.Opponents(task.generator, task.discriminator)
    return gan_losses.disc_loss(opponents, task.rules, task.penalties, microbatch, trainer.runtime.gather)


def gen_loss(trainer):
    batch = next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0)))
    (microbatch,) = trainer.microbatches(batch)
    task = trainer.task
    opponents = gan_losses.Opponents(task.generator, task.discriminator)
    return gan_losses.gen_loss(opponents, task.rules, None, None, print, microbatch, trainer.runtime.gather)


def counted(monkeypatch, network):
    """The images that pass through a network, a list that grows."""
    seen = []
    forward = network.forward

    def count(*arguments, **options):
        out = forward(*arguments, **options)
        seen.append((arguments, out))
        return out

    monkeypatch.setattr(network, "forward", count)
    return seen


@pytest.mark.parametrize("contrastive", ["none", "dcl", "barlow-twins"])
def test_nothing_of_the_discriminators_phase_flows_back_to_the_generator(contrastive, trainer):
    trainer = trainer(f"contrastive={contrastive}")
    loss, _ = disc_loss(trainer, step=0)
    loss.backward()
    assert all(p.grad is None for p in trainer.task.generator.parameters())
    assert all(p.grad is not None for p in trainer.task.discriminator.parameters() if p.requires_grad)


@pytest.mark.parametrize("contrastive", ["none", "dcl", "barlow-twins"])
def test_the_discriminators_fakes_are_made_once(contrastive, trainer, monkeypatch):
    trainer = trainer(f"contrastive={contrastive}")
    made = counted(monkeypatch, trainer.task.generator)
    disc_loss(trainer)
    assert len(made) == 1
    assert not made[0][1].image.requires_grad


def test_views_are_of_the_very_reals_and_fakes_that_the_adversarial_term_saw(trainer, monkeypatch):
    trainer = trainer("contrastive=barlow-twins")
    seen = counted(monkeypatch, trainer.task.discriminator)
    viewed = counted(monkeypatch, trainer.task.penalties.views)
    disc_loss(trainer)
    # Real and fake, every one a pass of its own, and the two views of each in one more.
    assert [len(arguments[0]) for arguments, _ in seen] == [4, 4, 8, 8]
    (real, _), (fake, _) = (arguments for arguments, _ in seen[:2])
    assert torch.equal(viewed[0][0][0], real)
    assert torch.equal(viewed[1][0][0], fake)
    for (_, pair), (arguments, _) in zip(viewed, seen[2:], strict=True):
        assert torch.equal(torch.cat(pair), arguments[0])
    # The views of the reals and of the fakes draw from streams of their own.
    assert viewed[0][0][1] != viewed[1][0][1]


def test_the_contrastive_term_adds_its_weight_times_itself(trainer):
    plain, _ = disc_loss(trainer("contrastive=none"))
    for name in ("barlow-twins", "dcl"):
        loss, stats = disc_loss(trainer(f"contrastive={name}", "contrastive.weight=0.25"))
        torch.testing.assert_close(loss, plain + 0.25 * stats["loss/contrastive"])
    _, stats = disc_loss(trainer("contrastive=dcl", "contrastive.weight=0"))
    assert "loss/contrastive" not in stats


@pytest.mark.parametrize("step", range(7))
def test_r1_comes_at_its_steps_only_and_makes_up_for_the_others(step, trainer):
    trainer = trainer("r1.every=3", "r1.gamma=10", "task.freeze=[]")
    loss, stats = disc_loss(trainer, step=step)
    assert ("loss/r1" in stats) == (step % 3 == 0)
    if step % 3 == 0:
        torch.testing.assert_close(loss, stats["loss/D"] + 3 * 10 / 2 * stats["loss/r1"])
    else:
        torch.testing.assert_close(loss, stats["loss/D"])


def test_r1_can_be_turned_off(trainer):
    trainer = trainer("r1.every=0")
    assert all("loss/r1" not in disc_loss(trainer, step=step)[1] for step in range(3))


def test_the_generators_phase_draws_fakes_of_its_own_and_reaches_only_trained_parts(trainer, monkeypatch):
    trainer = trainer()
    trainer.task._disc_trains(False)
    made = counted(monkeypatch, trainer.task.generator)
    disc_loss(trainer)
    loss, _ = gen_loss(trainer)
    loss.backward()
    assert not torch.equal(made[0][0][0].z, made[1][0][0].z)
    assert all(p.grad is None for p in trainer.task.discriminator.parameters())
    assert all(p.grad is None for p in trainer.task.generator.source.parameters())
    assert all(p.grad is not None for p in trainer.task.generator.trained["modulation"].parameters())


def test_what_a_modulation_adds_joins_the_generators_loss(trainer):
    trainer = trainer("modulation=cgan-transfer-port")
    loss, stats = gen_loss(trainer)
    assert stats["loss/l1-scores"] > 0
    torch.testing.assert_close(loss, stats["loss/G"] + stats["loss/l1-scores"] + stats["loss/l2-residuals"])


def test_the_dual_contrastive_game_shows_the_generator_the_reals_without_gradients(trainer, monkeypatch):
    trainer = trainer("adversarial=dual-contrastive")
    trainer.task._disc_trains(False)
    seen = counted(monkeypatch, trainer.task.discriminator)
    loss, _ = gen_loss(trainer)
    loss.backward()
    (fake, on_fake), (real, on_real) = seen
    assert fake[0].requires_grad
    assert not real[0].requires_grad
    expected = dual_contrastive(on_fake.logit, on_real.logit)
    torch.testing.assert_close(loss, expected)


def test_a_regularizer_adds_its_weight_times_itself(trainer):
    plain, _ = disc_loss(trainer())
    loss, stats = disc_loss(trainer("regularizer.name=lecam", "regularizer.weight=0.25"))
    assert bool(stats["loss/regularizer"] > 0)
    torch.testing.assert_close(loss, plain + 0.25 * stats["loss/regularizer"])


def test_reals_and_fakes_are_augmented_in_both_phases_and_views_are_not(trainer, monkeypatch):
    trainer = trainer("augment=diffaugment", "contrastive=barlow-twins", "adversarial=dual-contrastive", "r1.every=1")
    shown = counted(monkeypatch, trainer.task.rules.augment)
    viewed = counted(monkeypatch, trainer.task.penalties.views)
    seen = counted(monkeypatch, trainer.task.discriminator)
    _, stats = disc_loss(trainer)
    # D's pass of real and of fake is of the augmented pictures; the views are of the images as they came.
    assert len(shown) == 2
    assert all(torch.equal(out, arguments[0]) for (_, out), (arguments, _) in zip(shown, seen[:2], strict=True))
    assert all(torch.equal(v[0][0], s[0][0]) for v, s in zip(viewed, shown, strict=True))
    # R1 is of the images before it.
    real = shown[0][0][0]
    (grad,) = torch.autograd.grad(seen[0][1].logit.sum(), real, retain_graph=True)
    torch.testing.assert_close(stats["loss/r1"], grad.square().sum((1, 2, 3)).mean())
    loss, _ = gen_loss(trainer)
    assert len(shown) == 4
    keys = [tuple(arguments[1]) for arguments, _ in shown]
    assert len(set(keys)) == 4  # streams of their own
    (grad,) = torch.autograd.grad(loss, shown[2][0][0])  # G learns through it
    assert bool(grad.abs().sum() > 0)


def test_a_ranks_draws_are_its_part_of_the_global_batch():
    whole = draws.Draws(seed=3, step=5, first=40, batch=8).keys("disc")
    parts = [draws.Draws(seed=3, step=5, first=40 + 4 * rank, batch=4).keys("disc") for rank in range(2)]
    assert parts[0] + parts[1] == whole
    assert len({*whole, *draws.Draws(3, 5, 40, 8).keys("gen"), *draws.Draws(4, 5, 40, 8).keys("disc")}) == 24
    assert not set(whole) & set(draws.Draws(3, 6, 48, 8).keys("disc"))


def test_mirroring_flips_whole_images_and_about_half_of_them():
    images = torch.arange(200 * 12, dtype=torch.float32).view(200, 1, 3, 4)
    keys = draws.Draws(0, 0, 0, 200).keys("mirror")
    out = draws.mirrored(images, keys)
    flipped = [torch.equal(o, i.flip(2)) for o, i in zip(out, images, strict=True)]
    kept = [torch.equal(o, i) for o, i in zip(out, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 70 < sum(flipped) < 130
    assert torch.equal(draws.mirrored(images, keys), out)


def test_images_span_minus_one_to_one():
    assert draws.as_images(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


def test_a_gradient_missing_on_this_rank_counts_as_zero_in_the_average(monkeypatch):
    runtime = Runtime()
    monkeypatch.setattr(Runtime, "world", 2)
    # The other rank has the same gradients: a sum of two.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.mul_(2))
    network = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "unused": torch.nn.Linear(2, 1)})
    loss = network["used"](torch.ones(1, 2)).sum()
    loss.backward()
    runtime.average_gradients(network, loss.detach())
    assert network["used"].weight.grad.tolist() == [[1, 1]]
    assert network["unused"].weight.grad.tolist() == [[0, 0]]
