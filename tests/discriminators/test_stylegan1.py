"""The discriminator computes what the port computes, with one logit per class."""

from __future__ import annotations

import pytest
import torch
from reference_stylegan1 import discriminate, port_discriminator

from hmgan.discriminators.deviation import minibatch_stddev
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.errors import UserError
from hmgan.importers.convert import convert
from hmgan.importers.foreign import ForeignNetwork
from hmgan.importers.stylegan1_port import plan_discriminator

WIDTHS = (8, 8, 7, 8, 6, 4, 3)


def converted(state, resolution, group=0) -> StyleGAN1Discriminator:
    port = ForeignNetwork("checkpoint", "", state)
    network = convert(plan_discriminator(port, resolution, group)).network
    return network.double()


def pictures(batch, resolution):
    return torch.randn(batch, 3, resolution, resolution, generator=torch.Generator().manual_seed(5)).double()


def labels(batch):
    return torch.zeros(batch, dtype=torch.int64)


@pytest.mark.parametrize("activation", [True, False], ids=["rgb-activation", "plain-rgb"])
@pytest.mark.parametrize("resolution", [8, 16, 64, 128, 256])
def test_logits_equal_the_port(resolution, activation):
    state = port_discriminator(WIDTHS[: (resolution // 4).bit_length()], activation)
    images = pictures(3, resolution)
    ours = converted(state, resolution)(images, labels(3)).logit
    torch.testing.assert_close(ours[:, None], discriminate(state, images), rtol=1e-9, atol=1e-9)


def test_1024_pixels_equal_the_port():
    state = port_discriminator((4, 4, 4, 4, 4, 4, 3, 2, 2))
    images = pictures(1, 1024)
    ours = converted(state, 1024)(images, labels(1)).logit
    torch.testing.assert_close(ours[:, None], discriminate(state, images), rtol=1e-9, atol=1e-9)


def test_float32_equals_the_port_to_1e_5():
    state = port_discriminator(WIDTHS)
    images = pictures(2, 256)
    ours = converted(state, 256).float()(images.float(), labels(2)).logit
    torch.testing.assert_close(ours[:, None].double(), discriminate(state, images), rtol=1e-5, atol=1e-5)


def test_a_port_without_fused_layers_converts_to_the_same_logits():
    state = port_discriminator(WIDTHS, fused=False)
    images = pictures(2, 256)
    ours = converted(state, 256)(images, labels(2)).logit
    torch.testing.assert_close(ours[:, None], discriminate(state, images), rtol=1e-9, atol=1e-9)


def test_grouped_stddev_judges_each_group_as_a_batch_of_its_own():
    state = port_discriminator(WIDTHS[:3])
    images = pictures(6, 16)
    ours = converted(state, 16, group=2)(images, labels(6)).logit
    alone = torch.cat([discriminate(state, pair) for pair in images.split(2)])
    torch.testing.assert_close(ours[:, None], alone, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(ours[:, None], discriminate(state, images))


@pytest.mark.parametrize("group", [0, 2])
def test_batches_in_one_pass_equal_passes_of_their_own(group):
    network = converted(port_discriminator(WIDTHS[:3]), 16, group=group)
    first, second = pictures(4, 16), 2 * pictures(4, 16)
    together = network(torch.cat([first, second]), labels(8), batches=2).embedding
    alone = torch.cat([network(images, labels(4)).embedding for images in (first, second)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_a_batch_of_broken_groups_is_refused():
    with pytest.raises(UserError, match=r"^stddev_group 4 does not divide the batch of 6; change train\.batch"):
        minibatch_stddev(torch.zeros(6, 2, 4, 4), 4)


def test_the_pretrained_logit_is_copied_to_every_class():
    state = port_discriminator(WIDTHS[:3])
    pretrained = converted(state, 16)
    network = StyleGAN1Discriminator(3, resolution=16, channels=list(WIDTHS[:3]), stddev_group=0)
    network.load_source(pretrained.state_dict())
    network.double()
    images = pictures(3, 16)
    for classes in ([0, 1, 2], [2, 2, 0]):
        ours = network(images, torch.tensor(classes)).logit
        torch.testing.assert_close(ours[:, None], discriminate(state, images), rtol=1e-9, atol=1e-9)


def test_a_logit_is_that_of_the_samples_own_class():
    network = StyleGAN1Discriminator(3, resolution=8, channels=[6, 4], stddev_group=0)
    network.head.bias.data = torch.tensor([0.0, 10.0, 20.0])
    network.head.weight.data.zero_()
    out = network(pictures(4, 8).float(), torch.tensor([2, 0, 1, 1]))
    assert out.logit.tolist() == [20.0, 0.0, 10.0, 10.0]
    assert out.embedding.shape == (4, 6)
