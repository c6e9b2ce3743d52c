"""The loop: what trains and what does not, what a phase costs, and where a transfer begins."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from hmgan import components, rng
from hmgan.config.settings import Optimizer
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.pictures.grids import GRID_COLUMNS, GRID_SEED, fake_rows
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.log import RunLog
from hmgan.train.optim import discriminator_optimizer, generator_optimizer
from hmgan.train.prepare import prepare
from hmgan.train.tasks import gan


@pytest.fixture
def trainer(shards, source, tmp_path):
    return lambda *overrides, **extra: tiny.make_trainer(tiny.transfer(shards, source, *overrides, **extra), tmp_path)


def train(trainer):
    with RunLog(None, 1.0) as log:
        trainer.train(log)


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_source_and_the_frozen_parts_do_not_change_and_everything_else_does(trainer):
    trainer = trainer("train.kimg=0.02", "r1.every=2", "contrastive=barlow-twins")
    before = {"G": state_of(trainer.task.generator), "D": state_of(trainer.task.discriminator)}
    train(trainer)
    assert trainer.step == 5
    for name, value in trainer.task.generator.state_dict().items():
        assert torch.equal(value, before["G"][name]) == name.startswith("source."), name
    for name, value in trainer.task.discriminator.state_dict().items():
        assert torch.equal(value, before["D"][name]) == name.startswith("from_rgb."), name


def test_without_a_frozen_part_the_whole_discriminator_trains(trainer):
    trainer = trainer("train.kimg=0.004", "task.freeze=[]")
    before = state_of(trainer.task.discriminator)
    train(trainer)
    assert not any(torch.equal(value, before[name]) for name, value in trainer.task.discriminator.state_dict().items())


def test_a_step_makes_one_backward_and_one_update_per_network(trainer, monkeypatch):
    trainer = trainer("r1.every=1", "contrastive=barlow-twins")
    events = []
    backward = torch.Tensor.backward

    def count(self, *arguments, **options):
        events.append("backward")
        return backward(self, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", count)
    for name, optimizer in (("D", trainer.task.disc_optimizer), ("G", trainer.task.gen_optimizer)):
        optimizer.register_step_post_hook(lambda *_, name=name: events.append(name))
    trainer.take_step(next(trainer.batches()))
    assert events == ["backward", "D", "backward", "G"]


def test_the_discriminator_takes_no_gradients_in_the_generators_phase(trainer, monkeypatch):
    trainer = trainer()
    seen = []
    gen_loss = gan.gen_loss

    def look(*arguments):
        seen.append([p.requires_grad for p in trainer.task.discriminator.parameters()])
        return gen_loss(*arguments)

    monkeypatch.setattr(gan, "gen_loss", look)
    for _ in range(2):
        trainer.take_step(next(trainer.batches()))
    assert not any(any(flags) for flags in seen)
    trainer.task._disc_trains(True)
    trained = {name for name, p in trainer.task.discriminator.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"blocks", "conv1", "conv2", "head"}


def test_the_average_covers_the_trained_parts_and_equals_the_naive_recursion(trainer, monkeypatch):
    trainer = trainer("train.kimg=0.048", "ema.kimg=0.02", "ema.power=1.5", "optimizer.lr=0.05")
    history = []
    update = trainer.task.ema.update

    def record():
        history.append({name: p.detach().clone() for name, p in trainer.task.generator.trained.named_parameters()})
        update()

    monkeypatch.setattr(trainer.task.ema, "update", record)
    train(trainer)
    beta = 0.5 ** (4 / 20)  # halves in 20 images, at 4 images a step
    average = dict(history[0])
    factors = []
    for n, parameters in enumerate(history[1:], 2):
        factors.append(min(beta, 1 - n**-1.5))
        average = {name: factors[-1] * average[name] + (1 - factors[-1]) * p for name, p in parameters.items()}
    assert len(history) == 12
    assert min(factors) < beta == max(factors)  # the warm-up and the plateau are both seen
    got = dict(trainer.task.ema.ema_model.named_parameters())
    assert got.keys() == average.keys()
    for name, value in average.items():
        torch.testing.assert_close(got[name].detach(), value, rtol=1e-5, atol=1e-6)
    assert not any("source" in name for name in trainer.task.ema.state_dict())
    ours, averaged = (
        dict(network.named_buffers()) for network in (trainer.task.generator.trained, trainer.task.ema.ema_model)
    )
    assert ours
    assert all(averaged[name].data_ptr() == buffer.data_ptr() for name, buffer in ours.items())  # one copy
    assert trainer.task.averaged().source is trainer.task.generator.source


def test_by_default_the_average_halves_in_ten_thirty_seconds_of_the_batch(trainer):
    assert trainer().task.ema.beta == pytest.approx(0.5 ** (4 / (1000 * 4 * 10 / 32)))


@pytest.mark.parametrize("phase", ["disc_loss", "gen_loss"])
def test_fakes_take_the_labels_of_the_real_batch(phase, trainer, monkeypatch):
    trainer = trainer()
    batch = next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0)))
    labels = []
    forward = trainer.task.generator.forward

    def look(latents, labels_B, *rest):
        labels.append(labels_B)
        return forward(latents, labels_B, *rest)

    monkeypatch.setattr(trainer.task.generator, "forward", look)
    trainer.take_step(batch)
    assert len(labels) == 2  # D's fakes and G's
    assert torch.equal(labels[("disc_loss", "gen_loss").index(phase)], batch.labels)


def test_pretraining_ignores_the_labels_of_its_data(shards, tmp_path):
    trainer = tiny.make_trainer(tiny.pretraining(shards, "train.kimg=0.004"), tmp_path)
    assert trainer.task.setup.classes == 1
    train(trainer)  # labels 0 to 2 would not fit a discriminator of one class
    assert trainer.step == 1


def align_loss_after(trainer, steps):
    losses = []
    for _ in range(steps):
        losses.append(float(trainer.take_step(None)["loss/align"].detach()))
        trainer.step += 1
    return losses


@pytest.mark.parametrize("modulation", ["adafm", "adain"])
def test_alignment_pulls_random_heads_to_the_source(modulation, trainer):
    heads = (f"modulation.name={modulation}", "modulation.init=align")
    trainer = trainer(*heads, "optimizer.lr=0.02", "train.batch=8", task="alignment")
    discriminator = state_of(trainer.task.discriminator)
    losses = align_loss_after(trainer, 60)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(
        torch.equal(value, discriminator[name]) for name, value in trainer.task.discriminator.state_dict().items()
    )


def test_alignment_from_the_source_has_nothing_to_do(trainer):
    assert align_loss_after(trainer(task="alignment"), 1)[0] < 1e-4


def test_alignment_draws_every_class(trainer, monkeypatch):
    trainer = trainer("train.batch=60", "modulation.init=align", "modulation.name=adafm", task="alignment")
    seen = []
    phase = next(trainer.task.phases(0, trainer.microbatches(None)))
    loss = phase.loss
    monkeypatch.setattr(trainer.task, "loss", lambda part, gather: (seen.append(part.labels), loss(part, gather))[1])
    trainer.take_step(None)
    assert all(10 < count < 30 for count in seen[0].bincount(minlength=3).tolist())


@pytest.mark.parametrize("modulation", ["adafm", "adain"])
@pytest.mark.parametrize("class_net", ["one-hot", "embedding", "mlp"])
def test_a_transfer_starts_from_the_source_for_every_class(modulation, class_net, shards, source):
    experiment = tiny.transfer(shards, source, f"modulation={modulation}", f"class_net={class_net}")
    generator = prepare(experiment).networks.generator
    plain = load_source(str(source)).backbone
    latents = generator.latents(range(6), 0.9)
    with torch.no_grad():
        expected = plain(latents)
        for label in range(3):
            got = generator(latents, torch.full((6,), label))
            torch.testing.assert_close(got.image, expected.image, rtol=1e-5, atol=1e-5)
            for mine, theirs in zip(got.features, expected.features, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_the_first_picture_of_a_transfer_shows_the_source_in_every_row(shards, source):
    generator = prepare(tiny.transfer(shards, source)).networks.generator
    plain = UnconditionalGenerator(load_source(str(source)).backbone)
    latents = plain.latents(range(GRID_SEED, GRID_SEED + GRID_COLUMNS))
    with torch.no_grad():
        expected = plain(latents, torch.zeros(GRID_COLUMNS)).image
    rows = fake_rows(generator, tiny.CLASSES)
    assert list(rows) == list(tiny.CLASSES)
    for row in rows.values():
        levels = (expected.clamp(-1, 1) + 1) * 127.5
        assert float((row - levels).abs().max()) < 0.51  # quantised


def test_each_part_learns_at_its_own_rate(trainer):
    trainer = trainer("optimizer.lr=0.004", "optimizer.class_net_mult=0.25")
    rates = {id(p): g["lr"] for g in trainer.task.gen_optimizer.param_groups for p in g["params"]}
    for name, parameter in trainer.task.generator.trained.named_parameters():
        assert rates[id(parameter)] == (0.001 if name.startswith("class_net.") else 0.004)
    assert not {id(p) for p in trainer.task.generator.source.parameters()} & rates.keys()


def test_a_trained_mapping_network_learns_at_its_own_rate():
    generator = UnconditionalGenerator(components.build("backbone", "stylegan1", **tiny.BACKBONE))
    settings = Optimizer(lr=0.002, mapping_mult=0.5)
    rates = {id(p): g["lr"] for g in generator_optimizer(generator, settings).param_groups for p in g["params"]}
    for name, parameter in generator.trained.named_parameters():
        assert rates[id(parameter)] == (0.001 if name.startswith("mapping.") else 0.002)


def test_a_lazy_penalty_lowers_the_rate_and_the_memory_of_the_discriminators_adam():
    discriminator = components.build("discriminator", "stylegan1", 3, **tiny.DISCRIMINATOR)
    settings = Optimizer(lr=0.002, beta1=0.1, beta2=0.99)
    (lazy,) = discriminator_optimizer(discriminator, settings, 16).param_groups
    assert lazy["lr"] == pytest.approx(0.002 * 16 / 17)
    assert lazy["betas"] == pytest.approx((0.1 ** (16 / 17), 0.99 ** (16 / 17)))
    for every in (0, 1):
        (plain,) = discriminator_optimizer(discriminator, settings, every).param_groups
        assert (plain["lr"], plain["betas"]) == (0.002, (0.1, 0.99))


def test_training_lasts_for_the_images_asked_for_and_snapshots_fall_on_their_multiples(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, "train.kimg=0.022", "train.snap=0.01", "train.tick=0.004")
    seen = []
    trainer = tiny.make_trainer(experiment, tmp_path, lambda trainer, kimg: seen.append(round(1000 * kimg)))
    train(trainer)
    assert trainer.step == math.ceil(22 / 4)
    assert seen == [0, 12, 20, 24]  # the first step at or past 10 and 20, and the end


def test_the_first_steps_of_a_run_repeat_and_another_seed_gives_another_run(trainer):
    def after(seed):
        made = trainer("train.kimg=0.008", f"train.seed={seed}", "loader.mirror=true")
        train(made)
        return torch.cat([p.detach().flatten() for p in made.task.generator.trained.parameters()])

    assert torch.equal(after(0), after(0))
    assert not torch.equal(after(0), after(1))


def test_training_does_not_depend_on_the_global_random_stream(trainer):
    def after(noise):
        made = trainer("train.kimg=0.008", "contrastive=barlow-twins")
        torch.manual_seed(noise)
        train(made)
        return torch.cat([p.detach().flatten() for p in made.task.generator.trained.parameters()])

    assert torch.equal(after(1), after(2))


def test_gamma_follows_the_heuristic_unless_it_is_given(trainer):
    assert trainer().task.penalties.gamma == pytest.approx(2e-4 * 64 / 4)
    assert trainer("r1.gamma=7").task.penalties.gamma == 7


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("task.freeze=['from_rbg']",), "task.freeze names 'from_rbg'; did you mean 'from_rgb'? D has: from_rgb, "),
        (("train.batch=6",), "stddev_group 4 does not divide the batch of 6; change train.batch or stddev_group"),
        (
            ("discriminator.name=stylegan1", "discriminator.resolution=16", "discriminator.channels=[8,8,8]"),
            "discriminator cannot take images of 8 px: ",
        ),
        (("evaluation.per_class=2", "evaluation.extractor=squeezent"), "no extractor named 'squeezent'; did you mean "),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(overrides, text, shards, source, tmp_path):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *overrides))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_data_of_another_size_or_of_other_classes_is_refused(shards, source, tmp_path):
    pack(tiny.write_images(tmp_path / "large", 2, size=16), tmp_path / "16px")
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(tmp_path / "16px", source))
    assert str(caught.value) == (
        f"data {tmp_path / '16px'} is 16 px and the generator 8 px; pack it again with hmgan pack --resolution 8"
    )
    (tiny.write_images(tmp_path / "small", 2) / "cat").rename(tmp_path / "small" / "dog")
    pack(tmp_path / "small", tmp_path / "others")
    scored = ("evaluation.per_class=2", f"evaluation.data={tmp_path / 'others'}")
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *scored))
    assert str(caught.value) == (
        "evaluation.data has classes ant, bee, dog, training has ant, bee, cat; "
        "they must be the same, in the same order"
    )


def test_without_classes_labels_are_used_neither_in_training_nor_in_scores(shards):
    prepared = prepare(tiny.pretraining(shards, "evaluation.per_class=2"))
    assert prepared.classes == prepared.reals.classes == ("all",)
    assert prepared.reals.counts == (36,)


def test_a_batch_of_one_is_too_small_for_barlow_twins(shards, tmp_path, source):
    one = ("train.batch=1", "discriminator.name=stylegan1", "discriminator.stddev_group=1", "contrastive=barlow-twins")
    options = [f"discriminator.{key}={value}" for key, value in tiny.DISCRIMINATOR.items()]
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *one, *options))
    assert str(caught.value) == "barlow-twins needs 2 samples or more, got 1; raise train.batch"


def test_a_batch_that_the_ranks_cannot_share_is_refused(shards, source, monkeypatch):
    monkeypatch.setattr(Runtime, "world", 3)
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source))
    assert str(caught.value) == "train.batch 4 does not divide over 3 ranks; change --batch"


def test_the_minibatch_stddev_group_must_divide_each_ranks_batch(shards, source, monkeypatch):
    monkeypatch.setattr(Runtime, "world", 2)
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, "train.batch=12"))
    assert str(caught.value).startswith("stddev_group 4 does not divide the batch of 6; ")


def test_keys_of_two_streams_or_seeds_do_not_meet():
    keys = [k for seed in range(3) for stream in ("disc", "gen") for k in rng.keys(seed, stream, 0, 50)]
    assert len(set(keys)) == len(keys)
    assert rng.keys(1, "gen", 10, 5) == rng.keys(1, "gen", 0, 15)[10:]
