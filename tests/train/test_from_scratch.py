"""Training with labels and without a source."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch

from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.generators.snapshot import Loaded, load_generator
from hmgan.models.looks import key_of
from hmgan.models.model import Model
from hmgan.pictures.images import to_uint8
from hmgan.train.preflight import preflight
from hmgan.train.prepare import prepare

SCRATCH = ("class_net=one-hot", "modulation=label-to-z", "backbone.label_dim=4")
LIVE = ("class_net=embedding", "modulation.name=adafm", "modulation.live=true")


def built(shards, *overrides):
    return prepare(tiny.pretraining(shards, *overrides)).networks


@pytest.mark.parametrize("chosen", [SCRATCH, LIVE], ids=["label-to-z", "adafm"])
def test_everything_trains_from_scratch(chosen, shards, tmp_path):
    trainer = tiny.make_trainer(tiny.pretraining(shards, *chosen), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.task.generator.named_parameters()}
    trainer.take_step(next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))))
    moved = {name for name, p in trainer.task.generator.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in moved} == {"source", "trained"}
    assert any("mapping" in name for name in moved)
    assert any("conv2.weight" in name for name in moved)
    assert trainer.task.discriminator.head.bias.shape == (3,)


def test_the_label_stands_beside_z_in_both_styles_of_a_mixture(shards):
    generator = built(shards, *SCRATCH).generator
    mapping, label = generator.source.mapping, generator.trained["modulation"].label
    drawn, labels = generator.latents(range(4), mixing=1.0), torch.tensor([2, 0, 2, 1])
    with torch.no_grad():
        image = generator(drawn, labels).image
        beside = label(torch.eye(3))[labels]
        w, w_mix = (mapping(torch.cat([z, beside], 1)) for z in (drawn.z, drawn.z_mix))
        after = [(drawn.crossover_B <= i)[:, None] for i in range(2)]
        styles = [torch.where(mixed, w_mix, w) for mixed in after]
        torch.testing.assert_close(image, generator.source.synthesise(styles, drawn.noise).image)
        assert not torch.allclose(image, generator(drawn, (labels + 1) % 3).image)


@pytest.mark.parametrize("backbone", ["stylegan1", "stylegan2", "stylegan3"])
def test_a_drawing_is_of_the_class_that_it_is_given(backbone, shards):
    networks = prepare(tiny.pretraining(shards, *SCRATCH, backbone=backbone)).networks
    generator = networks.generator.eval()
    loaded = Loaded(generator, tiny.CLASSES, {}, generator)
    with torch.no_grad():
        wanted = generator(generator.latents([key_of(5)]), torch.tensor([2])).image[0]
        got = torch.from_numpy(Model(loaded, "cpu").sample(5, "cat"))[0].permute(2, 0, 1)
    assert int((got.int() - to_uint8(wanted[None])[0].int()).abs().max()) <= 1


def test_truncation_pulls_towards_the_mean_of_the_samples_own_class(shards):
    generator = built(shards, *SCRATCH).generator
    drawn = generator.latents(range(3))
    with torch.no_grad():
        alike = generator(
            drawn._replace(noise=tuple(n[:1].expand_as(n) for n in drawn.noise)), torch.zeros(3).long(), 0.0
        )
        torch.testing.assert_close(alike.image[0], alike.image[1], rtol=1e-4, atol=1e-4)
        other = generator(
            drawn._replace(noise=tuple(n[:1].expand_as(n) for n in drawn.noise)), torch.ones(3).long(), 0.0
        )
    assert not torch.allclose(alike.image[0], other.image[0])


def test_truncation_makes_a_mean_once_per_class(shards, monkeypatch):
    generator = built(shards, *SCRATCH).generator
    made, mean_style = [], generator.source.mean_style
    monkeypatch.setattr(generator.source, "mean_style", lambda label: made.append(label) or mean_style(label))
    generator(generator.latents(range(6)), torch.tensor([2, 0, 2, 2, 0, 2]), 0.5)
    assert len(made) == 2


def test_a_backbone_with_batch_statistics_is_refused_on_several_ranks_before_a_run_is_made(shards):
    task = prepare(tiny.pretraining(shards, backbone="biggan")).task
    task.setup = task.setup._replace(ranks=SimpleNamespace(world=2, device=torch.device("cpu")))
    with pytest.raises(
        UserError, match=r"^batch norms of this backbone see one rank's images, got 2 ranks; pretrain it"
    ):
        preflight(task)


def test_a_snapshot_from_scratch_is_whole_and_a_resumed_run_equals_the_uninterrupted_one(shards, tmp_path):
    chosen = tiny.options(train__batch=4, train__trackers="[]", train__snap=0.008)
    sizes = tiny.options(**{f"backbone__{key}": value for key, value in {**tiny.BACKBONE, "label_dim": 4}.items()})
    sizes += tiny.options(**{f"discriminator__{key}": value for key, value in tiny.DISCRIMINATOR.items()})
    runs = {}
    for name, first in (("whole", 0.016), ("cut", 0.008)):
        begin = ["pretrain", "hyper-mod-s", "--data", shards, "--outdir", tmp_path / name]
        assert tiny.command(*begin, "--kimg", first, *chosen, *sizes) == 0
        (runs[name],) = (tmp_path / name).iterdir()
    assert tiny.command("pretrain", "hyper-mod-s", "--resume", runs["cut"], "--kimg", 0.016) == 0
    whole, cut = (load_generator(runs[name]) for name in ("whole", "cut"))
    assert whole.classes == tiny.CLASSES
    latents, labels = whole.generator.latents(range(3)), torch.tensor([0, 1, 2])
    with torch.no_grad():
        assert torch.equal(whole.generator(latents, labels).image, cut.generator(latents, labels).image)


def test_a_normalisation_made_once_is_refused_from_scratch(shards):
    with pytest.raises(UserError, match=r"^convolutions train, which modulation 'adafm' normalises once; .*live=true$"):
        built(shards, "class_net=embedding", "modulation=adafm")


def test_labels_need_a_class_net_too(shards):
    with pytest.raises(UserError, match=r"^class_net is missing: modulation needs one"):
        tiny.pretraining(shards, "modulation=label-to-z")
