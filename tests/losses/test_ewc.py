"""Fisher information sample by sample, and the pull that it gives."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan import components, rng
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.losses.base import Adaptation, Transferred
from hmgan.losses.ewc import ElasticWeights, fisher


@pytest.fixture
def networks(source):
    """A source and its discriminator, frozen, in float64."""
    loaded = load_source(str(source))
    choice, state = loaded.discriminator
    discriminator = components.build("discriminator", choice.name, 1, **choice.options)
    discriminator.load_source(state)
    return loaded.backbone.double().requires_grad_(False), discriminator.double().requires_grad_(False)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def gradient_of_one(source, discriminator, keys, sample):
    """d log sigmoid(D(G(z))) / d theta of one sample, by a backward of its own."""
    source.requires_grad_(True)
    logits = discriminator(source(source.latents(keys)).image, torch.zeros(len(keys), dtype=torch.long)).logit
    (-torch.log(1 + torch.exp(-logits[sample]))).backward()
    grads = {name: p.grad.clone() for name, p in source.named_parameters()}
    source.zero_grad(set_to_none=True)
    source.requires_grad_(False)
    return grads


def test_fisher_is_the_mean_of_each_samples_own_squared_gradient(networks):
    source, discriminator = networks
    found = fisher(source, discriminator, samples=8, group=4, seed=3)
    passes = [rng.keys(3, "fisher", first, 4) for first in (0, 4)]
    grads = [gradient_of_one(source, discriminator, keys, sample) for keys in passes for sample in range(4)]
    assert found.keys() == dict(source.named_parameters()).keys()
    for name, value in found.items():
        expected = sum(each[name] ** 2 for each in grads) / 8
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-18)
    # The square of the mean gradient, which is not it, would be far smaller.
    mean = {name: sum(each[name] for each in grads) / 8 for name in found}
    assert sum(float((m**2).sum()) for m in mean.values()) < 0.9 * sum(float(f.sum()) for f in found.values())


def test_fisher_depends_on_its_seed_alone_and_leaves_the_networks_as_they_were(networks):
    one, again, other = (fisher(*networks, samples=4, group=4, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["to_rgb.weight"], other["to_rgb.weight"])
    for network in networks:
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_the_penalty_is_the_weighted_squared_distance_and_reaches_the_adapted_alone(networks, source):
    origin, discriminator = networks
    adapted = load_source(str(source)).backbone.double()
    penalty = ElasticWeights(Transferred(origin, discriminator, adapted), samples=4, group=4)
    phase = Adaptation(None, None, None, 0, lambda x: x, None, print)
    assert penalty(phase).item() == 0
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += torch.randn_like(parameter)
    value = penalty(phase)
    weights, start = fisher(origin, discriminator, 4, 4, 0), dict(origin.named_parameters())
    expected = 0.0
    for name, parameter in adapted.named_parameters():
        rows = zip(weights[name].flatten(), parameter.detach().flatten(), start[name].flatten(), strict=True)
        expected += sum(float(f) * (float(p) - float(o)) ** 2 for f, p, o in rows)
    assert math.isclose(value.item(), expected, rel_tol=1e-9)
    value.backward()
    for name, parameter in adapted.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * weights[name] * (parameter.detach() - start[name]))
    assert all(p.grad is None for network in networks for p in network.parameters())


def test_samples_come_in_whole_groups():
    with pytest.raises(UserError) as caught:
        ElasticWeights(Transferred(None, None, None), samples=10, group=4)
    assert str(caught.value) == "ewc needs samples in whole groups, got 10 samples and group 4; change one"
