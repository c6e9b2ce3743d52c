"""Every component the registry knows composes with every other and trains a step: registering one buys it this test."""

from __future__ import annotations

from itertools import product

import pytest
import tiny
import torch

from hmgan.config import entries
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare

NONE = "none"
GRID = list(
    product(
        entries.known("backbone"),
        entries.known("modulation"),
        entries.known("class-net"),
        [NONE, *entries.known("contrastive")],
    )
)
# Schemes that edit normalisations only, on a source without any; and old classes, on a source without any.
REFUSED = set(product(["gan-memory-resnet"], ["adain", "adain-class-only", "cgan-transfer-port", "scale-shift"]))
REFUSED |= set(product(["gan-memory-resnet", "stylegan1", "stylegan2", "stylegan3"], ["cgan-transfer"]))
# Penalties on G that are for transfers with a modulation, and for all.
OF_CLASSES, OF_ALL = {"noisy-twins"}, {"mode-seeking"}
# For training from scratch: no source has a mapping that takes a class.
SCRATCH = "label-to-z"
# What `hmgan classes` makes of trained generators.
MADE = "joined"
# What edits a StyleGAN source.
COMPOSING = [m for m in entries.known("modulation") if m not in (SCRATCH, MADE) and ("stylegan1", m) not in REFUSED]
TRAINED = [
    combination for combination in GRID if combination[:2] not in REFUSED and combination[1] not in (SCRATCH, MADE)
]


@pytest.fixture(scope="module")
def source_of(tmp_path_factory, source):
    """Backbone name -> a saved source of it, 8 px; other backbones than StyleGAN1 learn against its discriminator."""

    def make(name):
        if name == "stylegan1":
            return source
        folder = tmp_path_factory.mktemp(name)
        tiny.write_source(folder, backbone=name)
        return folder

    return make


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def one_step(experiment, folder):
    """Trains a step with R1; the trainer, and which of its tensors moved."""
    trainer = tiny.make_trainer(experiment, folder)
    networks = torch.nn.ModuleDict({"G": trainer.task.generator, "D": trainer.task.discriminator})
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    stats = trainer.take_step(next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))))
    assert all(bool(torch.isfinite(value)) for value in stats.values())
    assert all(bool(value.isfinite().all()) for value in networks.state_dict().values())
    return trainer, stats, changed(before, networks.state_dict())


@pytest.mark.parametrize(("backbone", "modulation", "class_net", "contrastive"), TRAINED, ids=map("-".join, TRAINED))
def test_a_combination_trains_a_step(backbone, modulation, class_net, contrastive, source_of, shards, tmp_path):
    chosen = (f"modulation={modulation}", f"class_net={class_net}", f"contrastive={contrastive}")
    experiment = tiny.transfer(shards, source_of(backbone), *chosen)
    trainer, stats, moved = one_step(experiment, tmp_path)
    assert {"loss/G", "loss/D", "loss/r1"} <= stats.keys()
    assert ("loss/contrastive" in stats) == (contrastive != NONE)
    assert any(name.startswith("G.trained.modulation.") for name in moved)
    assert any(name.startswith("D.") for name in moved)
    assert not any(name.startswith(("G.source.", "D.from_rgb.")) for name in moved)
    with torch.no_grad():  # what a step trained can be drawn, every class in one batch
        labels = torch.tensor([2, 0, 1])
        assert trainer.task.averaged()(trainer.task.generator.latents(range(3)), labels).image.shape == (3, 3, 8, 8)


@pytest.mark.parametrize(("backbone", "modulation"), sorted(REFUSED))
def test_what_does_not_combine_says_so(backbone, modulation, source_of, shards):
    with pytest.raises(UserError, match=f"^modulation {modulation} .*, and this source has no.*; use [a-z-]+$"):
        prepare(tiny.transfer(shards, source_of(backbone), f"modulation={modulation}"))


@pytest.mark.parametrize("backbone", entries.known("backbone"))
def test_a_source_without_labels_cannot_take_them_beside_z(backbone, source_of, shards):
    with pytest.raises(UserError, match=r"^modulation label-to-z wants a mapping network .*label_dim=N$"):
        prepare(tiny.transfer(shards, source_of(backbone), f"modulation={SCRATCH}"))


def discriminator_options(name, folder):
    """Settings of a tiny one; that on features has a file of its own."""
    own = [f"{key}={value}" for key, value in tiny.DISCRIMINATOR.items()]
    if name == "projected":
        own = ["resolution=8", *tiny.write_script(folder / "maps.pt")]
    return [f"discriminator.{option}" for option in own]


@pytest.mark.parametrize("head", entries.known("disc-head"))
@pytest.mark.parametrize("name", entries.known("discriminator"))
def test_a_new_discriminator_of_every_kind_trains_a_step_with_every_head(name, head, source, shards, tmp_path):
    options = discriminator_options(name, tmp_path)
    chosen = (f"discriminator.name={name}", *options, f"disc_head={head}", "task.freeze=[]")
    _, _, moved = one_step(tiny.transfer(shards, source, *chosen), tmp_path)
    assert any(name.startswith("D.head.") for name in moved)


@pytest.mark.parametrize("contrastive", entries.known("contrastive"))
@pytest.mark.parametrize("head", entries.known("disc-head"))
def test_the_sources_discriminator_with_every_head_trains_a_step(head, contrastive, source, shards, tmp_path):
    one_step(tiny.transfer(shards, source, f"disc_head={head}", f"contrastive={contrastive}"), tmp_path)


@pytest.mark.parametrize("name", entries.known("adversarial"))
def test_every_adversarial_loss_trains_a_step(name, source, shards, tmp_path):
    one_step(tiny.transfer(shards, source, f"adversarial={name}"), tmp_path)


@pytest.mark.parametrize("regularizer", [NONE, *entries.known("regularizer")])
@pytest.mark.parametrize("augment", entries.known("augment"))
@pytest.mark.parametrize("head", entries.known("disc-head"))
def test_every_augmentation_head_and_regularizer_train_a_step(augment, regularizer, head, source, shards, tmp_path):
    chosen = (f"augment={augment}", f"regularizer={regularizer}", f"disc_head={head}", "contrastive=barlow-twins")
    _, stats, _ = one_step(tiny.transfer(shards, source, *chosen), tmp_path)
    assert ("loss/regularizer" in stats) == (regularizer != NONE)


@pytest.mark.parametrize("augment", entries.known("augment"))
def test_every_augmentation_pretrains_a_step(augment, shards, tmp_path):
    one_step(tiny.pretraining(shards, f"augment={augment}", "regularizer=lecam"), tmp_path)


@pytest.mark.parametrize("backbone", entries.known("backbone"))
@pytest.mark.parametrize("penalty", [NONE, *sorted(set(entries.known("gen-penalty")) - OF_CLASSES)])
def test_every_backbone_can_be_fine_tuned_under_every_penalty(backbone, penalty, source_of, shards, tmp_path):
    experiment = tiny.transfer(shards, source_of(backbone), f"gen_penalty={penalty}", name="transfergan")
    _, stats, moved = one_step(experiment, tmp_path)
    assert ("loss/gen-penalty" in stats) == (penalty != NONE)
    assert {name.split(".")[0] for name in moved} == {"G", "D"}


@pytest.mark.parametrize("modulation", COMPOSING)
@pytest.mark.parametrize("penalty", sorted(OF_CLASSES | OF_ALL))
def test_every_modulation_trains_a_step_under_every_penalty_on_variety(modulation, penalty, source, shards, tmp_path):
    chosen = ("loader.stratified=true", "loader.group=2", "task.within_class=true", "disc_head=adc")
    experiment = tiny.transfer(shards, source, f"modulation={modulation}", f"gen_penalty={penalty}", *chosen)
    _, stats, moved = one_step(experiment, tmp_path)
    assert stats["loss/gen-penalty"] > 0
    assert any(name.startswith("G.trained.modulation.") for name in moved)


@pytest.mark.parametrize("feature_net", [NONE, *entries.known("feature-net")])
@pytest.mark.parametrize("modulation", [NONE, *COMPOSING])
def test_every_modulation_or_the_whole_source_reconstructs_a_step(modulation, feature_net, source, shards, tmp_path):
    class_net = NONE if modulation == NONE else "one-hot"
    file = tiny.write_script(tmp_path / "maps.pt") if feature_net == "torchscript" else ()
    options = (f"feature_net.{option}" for option in file)
    chosen = (f"modulation={modulation}", f"class_net={class_net}", f"feature_net={feature_net}", *options)
    trainer, stats, moved = one_step(tiny.transfer(shards, source, *chosen, name="bsa"), tmp_path)
    assert {"loss/image", "loss/emd"} <= stats.keys()
    assert ("loss/perceptual" in stats) == (feature_net != NONE)
    assert moved
    assert not any(name.startswith(("G.source.", "D.")) for name in moved)
    assert set(trainer.task.data.classes) == {"all"}


@pytest.mark.parametrize("name", entries.known("backbone"))
def test_every_backbone_pretrains_a_step(name, shards, tmp_path):
    _, _, moved = one_step(tiny.pretraining(shards, backbone=name), tmp_path)
    assert any(name.startswith("G.") for name in moved)


@pytest.mark.parametrize("modulation", sorted({*entries.known("modulation")} - {SCRATCH, MADE}))
def test_every_modulation_can_be_aligned(modulation, source_of, shards, tmp_path):
    backbone = "biggan" if ("stylegan1", modulation) in REFUSED else "stylegan1"
    experiment = tiny.transfer(
        shards,
        source_of(backbone),
        f"modulation.name={modulation}",
        "modulation.init=align",
        "train.kimg=0.012",
        task="alignment",
    )
    trainer = tiny.make_trainer(experiment, tmp_path)
    with RunLog(None, 1.0) as log:
        trainer.train(log)
    assert trainer.step == 3
