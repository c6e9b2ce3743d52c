"""CDC's turns: whole images near anchors, and patches from anywhere."""

from __future__ import annotations

import pytest
import tiny
import torch
from test_finetuning import one_step, parameters

from hmgan.discriminators.patches import PatchDiscriminator
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.train.prepare import prepare


@pytest.fixture
def trainer(shards, source, tmp_path):
    return tiny.make_trainer(tiny.transfer(shards, source, "optimizer.mapping_mult=1.0", name="cdc"), tmp_path)


def test_one_step_in_four_is_of_whole_images_and_the_others_are_of_patches(trainer):
    kinds = [trainer.task.players.opponents(step, 0.0).discriminator is trainer.task.discriminator for step in range(9)]
    assert kinds == [True, False, False, False, True, False, False, False, True]


def test_latents_of_whole_images_lie_about_the_anchors_and_are_not_mixed(trainer):
    generator = trainer.task.players.opponents(0, 0.0).generator
    keys = [11 * i for i in range(200)]
    latents, free = generator.latents(keys, 0.9), trainer.task.generator.latents(keys)
    anchors = torch.stack([trainer.task.generator.latents([k]).z[0] for k in generator._keys])
    assert len(anchors.unique(dim=0)) == 10
    distance_BA = torch.cdist(latents.z, anchors)
    expected = 0.1 * free.z.norm(dim=1)
    torch.testing.assert_close(distance_BA[range(200), [k % 10 for k in keys]], expected, rtol=1e-3, atol=1e-5)
    assert bool((latents.crossover_B == len(trainer.task.generator.trained.blocks)).all())
    assert all(torch.equal(a, b) for a, b in zip(latents.noise, free.noise, strict=True))


def test_a_logit_sees_its_patch_of_its_own_image_alone(trainer):
    patches = trainer.task.players.patches
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    labels = torch.zeros(2, dtype=torch.long)
    out = patches(images, labels)
    assert out.logit.shape == (2 * 4 * 4,)
    h = trainer.task.discriminator.maps(images, 1)
    expected = torch.nn.functional.conv2d(
        h, patches.patch_head.weight * patches.patch_head.gain, patches.patch_head.bias, padding=1
    )
    torch.testing.assert_close(out.logit, expected.flatten())
    (grad,) = torch.autograd.grad(out.logit[0], images)
    assert bool((grad[1] == 0).all())
    assert bool((grad[0] != 0).any())
    assert bool((grad[0, :, 7, 7] == 0).all())  # the place in the other corner


def test_each_turn_trains_its_own_part_of_d_and_all_of_g(trainer):
    in_g, in_d = parameters(trainer)
    head = trainer.task.players.patches.patch_head.weight
    before = head.clone()
    assert one_step(trainer) == in_g | in_d
    assert torch.equal(head, before)
    trainer.step = 1
    early = {name for name in in_d if name.startswith(("D.from_rgb.", "D.blocks."))}
    assert one_step(trainer) == in_g | early
    assert not torch.equal(head, before)


def test_what_is_kept_is_a_plain_source(shards, source, tmp_path):
    settings = tiny.options(train__trackers="[]", train__batch=4)
    where = ["--data", shards, "--source", source, "--outdir", tmp_path, "--kimg", 0.008]
    assert tiny.command("train", "cdc", *where, *settings) == 0
    (snapshot,) = tmp_path.glob("*/snapshots/*")
    assert load_source(str(snapshot)).discriminator[1].keys() == load_source(str(source)).discriminator[1].keys()


def test_more_blocks_than_d_has_are_refused(shards, source):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, "players.patch_blocks=2", name="cdc"))
    assert str(caught.value) == "players.patch_blocks counts blocks of D, got 2, and D has 1; lower it"


def test_a_discriminator_without_patches_is_refused():
    with pytest.raises(UserError) as caught:
        PatchDiscriminator(torch.nn.Identity(), 1, 0)
    assert str(caught.value) == "anchors need a D that can judge patches, as stylegan1 can; leave players out"
