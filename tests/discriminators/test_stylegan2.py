"""StyleGAN2's discriminator against a slow one, from states under its release's names."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from backbones import naive_styled as naive

from hmgan import components
from hmgan.discriminators.deviation import strided_deviation
from hmgan.discriminators.heads import LogitPerClass
from hmgan.discriminators.mapped_projection import MappedProjection
from hmgan.errors import UserError

SMALL = {"resolution": 16, "channels": [6, 5, 4]}


def release(classes=0, **options):
    """A state under the release's names, random."""
    network = components.build("discriminator", "stylegan2", 1, **SMALL, **options)
    torch.manual_seed(5)
    shapes = {k: v.shape for k, v in network.state_dict().items() if not k.startswith("head.")}
    shapes |= {"b4.out.weight": (9 if classes else 1, 6), "b4.out.bias": (9 if classes else 1,)}
    if classes:
        shapes |= {"mapping.embed.weight": (9, classes), "mapping.embed.bias": (9,)}
        shapes |= {f"mapping.fc{i}.weight": (9, 9) for i in range(8)} | {f"mapping.fc{i}.bias": (9,) for i in range(8)}
    # The mapping's layers learn at a hundredth of the rate, and so are stored a hundred times as large.
    return {k: torch.randn(shape) * (100 if k.startswith("mapping.fc") else 1) for k, shape in shapes.items()}


def loaded(state, classes=1, head=LogitPerClass, **options):
    network = components.build("discriminator", "stylegan2", classes, head, **SMALL, **options).double()
    network.load_source({k: v.double() for k, v in state.items()})
    return network


BRANCHES = {
    "resnet": {},
    "skip": {"architecture": "skip"},
    "orig": {"architecture": "orig"},
    "clamped": {"clamp": 0.7},
    "small-groups": {"stddev_group": 2},
    "tall": {"height": 16, "width": 8},
    "six-taps": {"filter": [1.0, 2.0, 5.0, 4.0, 3.0, 1.0]},
}


@pytest.mark.parametrize("branch", BRANCHES)
def test_logits_are_those_of_the_slow_network(branch):
    options = BRANCHES[branch]
    state = release(**options)
    images = torch.randn(8, 3, options.get("height", 16), options.get("width", 16)).double()
    got = loaded(state, **options)(images, torch.zeros(8).long()).logit
    wanted = naive.discriminator2(
        {k: v.double() for k, v in state.items()},
        images,
        options.get("architecture", "resnet"),
        options.get("stddev_group", 4),
        options.get("clamp", 0.0),
        taps=options.get("filter", (1, 3, 3, 1)),
    )
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_a_files_classes_are_its_own_head_and_their_mean_under_another():
    state, images = release(classes=3), torch.randn(4, 3, 16, 16).double()
    network = loaded(state, 3, partial(MappedProjection, mapped_dim=9))
    by_class = []
    for label in range(3):
        one_hot = torch.eye(3)[[label] * 4].double()
        wanted = naive.discriminator2({k: v.double() for k, v in state.items()}, images, "resnet", 4, classes=one_hot)
        torch.testing.assert_close(network(images, torch.full((4,), label)).logit, wanted, rtol=1e-6, atol=1e-6)
        by_class.append(wanted)
    mean = loaded(state, 5)(images, torch.tensor([4, 0, 1, 2])).logit
    torch.testing.assert_close(mean, torch.stack(by_class).mean(0), rtol=1e-4, atol=1e-4)


def test_a_mapped_head_starts_as_its_source_judges_and_gives_a_class_back():
    state, images, labels = release(), torch.randn(4, 3, 16, 16).double(), torch.tensor([0, 1, 2, 1])
    plain = loaded(state)(images, torch.zeros(4).long()).logit
    network = loaded(state, 3, partial(MappedProjection, mapped_dim=9))
    torch.testing.assert_close(network(images, labels).logit, plain, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    alone = components.build("discriminator", "stylegan2", 1, **SMALL).double()
    alone.load_source(network.of_class(1))
    wanted = network(images, torch.ones(4).long()).logit
    torch.testing.assert_close(alone(images, torch.zeros(4).long()).logit, wanted, rtol=1e-6, atol=1e-6)


def test_groups_of_the_deviation_are_strided():
    x = torch.randn(6, 2, 3, 3).double()
    extra = strided_deviation(x, 3)[:, 2, 0, 0]
    for i in range(6):
        members = x[[i % 2, i % 2 + 2, i % 2 + 4]]
        assert float(extra[i]) == pytest.approx(float((members.var(0, correction=0) + 1e-8).sqrt().mean()))
    two = strided_deviation(torch.cat([x, 2 * x]), 3, batches=2)[:, 2, 0, 0]
    torch.testing.assert_close(two, torch.cat([extra, 2 * extra]), rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=r"^stddev_group 4 does not divide the batch of 6; change train\.batch"):
        strided_deviation(x, 4)


def test_all_layers_that_see_images_are_frozen_as_one():
    network = components.build("discriminator", "stylegan2", 1, **SMALL, architecture="skip")
    frozen = {name for name, _ in network.parts()["from_rgb"].named_parameters()}
    assert len(frozen) == 6
