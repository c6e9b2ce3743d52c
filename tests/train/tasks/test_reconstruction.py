"""BSA: images from z of their own, without a discriminator."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

from hmgan import rng
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare


def bsa(shards, source, *overrides):
    return tiny.transfer(shards, source, *overrides, name="bsa")


@pytest.fixture
def trainer(shards, source, tmp_path):
    return lambda *overrides: tiny.make_trainer(bsa(shards, source, *overrides), tmp_path)


def drawn(trainer, step):
    return next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0, start_step=step)))


def shown(trainer, step):
    """Which images of the set a step shows, by their pixels."""
    every = torch.stack([trainer.task.data[i][0] for i in range(len(trainer.task.data))])
    return [int((every == image).flatten(1).all(1).nonzero()) for image in drawn(trainer, step).images]


def test_a_step_trains_scales_shifts_and_the_z_of_its_own_images_alone(trainer):
    trainer = trainer()
    networks = torch.nn.ModuleDict({"G": trainer.task.generator, "D": trainer.task.discriminator})
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    for step in (0, 1):
        trainer.step = step
        table = trainer.task.latents.z_NZ
        # Later steps move every row, by the momentum of its own gradients.
        fresh = (table == 0).all(1)
        trainer.take_step(drawn(trainer, step))
        moved = (fresh & (table != 0).any(1)).nonzero().flatten().tolist()
        assert moved == sorted(shown(trainer, step))
    for name, value in networks.state_dict().items():
        modulated = name.startswith("G.trained.modulation.")
        assert torch.equal(value, before[name]) != modulated, name
    assert trainer.task.generator.trained["modulation"].pull == 0.02


def test_the_loss_is_the_papers_sum_image_by_image(trainer):
    trainer = trainer("task.perceptual_weight=0.25", "modulation.pull=0.5", "train.seed=3")
    trainer.step = 2
    modulation, table = trainer.task.generator.trained["modulation"], trainer.task.latents.z_NZ
    with torch.no_grad():
        for each in (*modulation.parameters(), table):
            each += 0.3 * torch.randn(each.shape, generator=rng.generator(0))
    batch = next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=3, start_step=2)))
    (microbatch,) = trainer.microbatches(batch)
    loss, _ = trainer.task.loss(microbatch, trainer.runtime.gather)

    every = torch.stack([trainer.task.data[i][0] for i in range(len(trainer.task.data))])
    images, features, learned = 0.0, 0.0, []
    network = trainer.task.feature_net
    with torch.no_grad():
        for b, image in enumerate(batch.images):
            place = int((every == image).flatten(1).all(1).nonzero())
            latents = trainer.task.generator.latents([rng.key(3, "reconstruction", 2 * 4 + b)])
            latents = latents._replace(z=table[place] + 0.01 * latents.z)
            made, real = trainer.task.generator(latents, torch.tensor([0])).image, (image.float() / 127.5 - 1)[None]
            images += float((made - real).abs().mean()) / 4
            features += sum(float((x - y).abs().mean()) for x, y in zip(network(made), network(real), strict=True)) / 4
            learned.append(table[place].double())
        normal = [rng.normal_rows([rng.key(3, "emd", 2 * 4 + b)], 80).view(10, 8).double() for b in range(4)]
        draws = torch.cat(normal)
        gaps = torch.stack([torch.stack([(z - r).square().sum() for r in draws]) for z in learned])
        emd = float(gaps.min(1).values.mean() + gaps.min(0).values.mean())
        pull = sum(float(t.square().mean()) for t in (*modulation.scales, *modulation.shifts))
    expected = images + 0.25 * features + 0.1 * emd + 0.5 * pull
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_every_rate_drops_as_images_are_shown(trainer):
    trainer = trainer("task.drop_kimg=0.008", "train.kimg=0.02", "task.lr=0.5")
    groups = trainer.task.gen_optimizer.param_groups
    seen = []
    trainer.task.gen_optimizer.register_step_pre_hook(lambda *_: seen.append([group["lr"] for group in groups]))
    with RunLog(None, 1.0) as log:
        trainer.train(log)
    factors = [1, 1, 0.2, 0.2, 0.04]
    assert seen == [pytest.approx([0.03 * factor, 0.5 * factor]) for factor in factors]


def test_it_draws_the_images_it_has_seen(trainer):
    trainer = trainer("feature_net=none", "train.kimg=0.4", "train.tick=0.04")
    first = {}

    class Log(RunLog):
        def tick(self, kimg, stats, speed):
            first.setdefault("image", stats["loss/image"])
            self.last = stats["loss/image"]
            return {}

    with Log(None, 1.0) as log:
        trainer.train(log)
    assert log.last < 0.75 * first["image"]


def test_with_labels_each_class_has_a_scale_and_a_shift_of_its_own(trainer):
    trainer = trainer("train.labels=true")
    assert trainer.task.data.classes == tiny.CLASSES
    trainer.take_step(drawn(trainer, 0))
    trained = set(drawn(trainer, 0).labels.tolist())
    for table in trainer.task.generator.trained["modulation"].scales:
        assert {c for c in range(3) if bool((table[c] != 0).any())} == trained


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    """A run of two steps, scored."""
    outdir = tmp_path_factory.mktemp("runs")
    settings = tiny.options(train__trackers="[]", train__batch=4, evaluation__per_class=4)
    where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.008]
    assert tiny.command("train", "bsa", *where, *settings) == 0
    (folder,) = outdir.iterdir()
    return folder


def test_its_snapshot_is_sampled_and_scored_against_all_classes_together(run, shards, tmp_path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {(line["class"], line["n_real"], line["n_fake"]) for line in lines} == {("all", 36, 4), ("mean", 36, 4)}
    loaded = load_generator(run)
    assert loaded.classes == ("all",)
    assert bool((loaded.generator.trained["modulation"].scales[0] != 0).any())
    assert tiny.command("sample", "--network", run, "--outdir", tmp_path / "drawn", "--seeds", "0-1") == 0
    assert tiny.command("evaluate", run, "--data", shards, "--per-class", 4) == 0


def test_its_log_speaks_of_images_and_of_no_discriminator(run):
    log = (run / "log.txt").read_text()
    assert "image " in log
    assert "r1" not in log


def test_a_dry_run_counts_the_z_and_no_discriminator(shards, source, capsys):
    where = ["--data", shards, "--source", source, "--batch", 4, "--dry-run"]
    assert tiny.command("train", "bsa", *where, *tiny.options(train__trackers="[]")) == 0
    out = capsys.readouterr().out
    assert "z of 36 images" in out
    assert "288" in out  # 8 numbers each
    assert "discriminator │" not in out
    assert "r1" not in out


@pytest.mark.parametrize(
    ("name", "overrides", "text"),
    [
        (
            "bsa",
            ("task.limit=35",),
            "reconstruction learns a z per image of at most 35 images, got 36; "
            "train on fewer images, or raise task.limit",
        ),
        (
            "bsa",
            ("contrastive=dcl",),
            "task 'reconstruction' has no discriminator to train; leave contrastive out, or task",
        ),
        (
            "bsa",
            ("players=anchors",),
            "task 'reconstruction' has no discriminator to train; leave players out, or task",
        ),
        (
            "bsa",
            ("loader.mirror=true",),
            "task 'reconstruction' has one z for an image and its mirror image; leave loader.mirror out, or task",
        ),
        (
            "bsa",
            ("modulation=none", "class_net=none", "train.labels=true"),
            "train.labels needs a class_net and a modulation, or a backbone with classes; name them, or leave "
            "train.labels out",
        ),
        (
            "transfergan",
            ("feature_net=squeezenet",),
            "feature_net 'squeezenet' compares reconstructed images: task.name=reconstruction is missing; name it, or "
            "leave feature_net out",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(name, overrides, text, shards, source):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *overrides, name=name))
    assert str(caught.value) == text


def test_a_source_whose_z_names_a_class_is_refused(shards, tmp_path):
    with pytest.raises(UserError) as caught:
        prepare(bsa(shards, tiny.write_source(tmp_path, backbone="biggan")))
    assert str(caught.value) == (
        "reconstruction learns a z per image, and a part of this source's z is its class; use a source without classes"
    )


def test_pretraining_by_reconstruction_is_refused(shards):
    with pytest.raises(UserError) as caught:
        tiny.pretraining(shards, "task=reconstruction", "task.limit=40")
    assert str(caught.value) == (
        "task 'reconstruction' adapts a source, and has no use for a new backbone; leave backbone out, or task"
    )
