"""NoisyTwins against a reference of its own: noise on v, two renderings, Barlow Twins between their blocks."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan import rng
from hmgan.errors import UserError
from hmgan.losses.base import Adaptation
from hmgan.losses.noisy_twins import NoisyTwins
from hmgan.train.prepare import prepare

LABELS = [2, 0, 2, 1, 0, 2]


@pytest.fixture
def generator(shards, source):
    generator = prepare(tiny.transfer(shards, source)).networks.generator
    torch.manual_seed(0)
    for parameter in generator.trained.parameters():
        parameter.data += torch.randn_like(parameter)
    return generator


def penalty(generator, **options):
    latents = generator.latents(range(6))
    return NoisyTwins(**options)(Adaptation(latents, None, torch.tensor(LABELS), 7, lambda x: x, generator, print))


def at_four_pixels(map_CHW):
    size = map_CHW.shape[1] // 4
    cells = [slice(i * size, (i + 1) * size) for i in range(4)]
    return [float(channel[y, x].mean()) for channel in map_CHW for y in cells for x in cells]


def naive(generator, sigma, off_diagonal):
    """Each sample rendered alone, and sums over all pairs of features."""
    twins = []
    for stream in ("twin-1", "twin-2"):
        rows = []
        for i, label in enumerate(LABELS):
            v = generator.trained["class_net"](torch.tensor([label]))
            noise = torch.randn(v.shape[1], generator=rng.generator(rng.key(7, stream, label)))
            edits = generator.modulation(v + sigma * float(v.detach().pow(2).mean()) ** 0.5 * noise)
            out = generator.render(generator.latents([i]), edits, torch.zeros(1, dtype=torch.long))
            rows.append([x for block in out.features for x in at_four_pixels(block[0].detach())])
        rows = torch.tensor(rows, dtype=torch.float64)
        twins.append((rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt())
    total = 0.0
    for i in range(twins[0].shape[1]):
        for j in range(twins[0].shape[1]):
            c = float((twins[0][:, i] * twins[1][:, j]).mean())
            total += (c - 1) ** 2 if i == j else off_diagonal * c**2
    return total


def test_it_is_barlow_twins_between_two_renderings_under_noisy_class_vectors(generator):
    got = penalty(generator, sigma=0.5, off_diagonal=0.02).item()
    assert got == pytest.approx(naive(generator, 0.5, 0.02), rel=1e-3)


def test_without_noise_both_twins_are_one(generator):
    assert penalty(generator, sigma=0.0, off_diagonal=0.0).item() < 1e-3
    assert penalty(generator, sigma=0.5, off_diagonal=0.0).item() > 1e-3


def test_it_reaches_the_class_net_and_the_modulation(generator):
    penalty(generator).backward()
    for part in ("class_net", "modulation"):
        assert any(p.grad is not None and p.grad.any() for p in generator.trained[part].parameters())


def test_it_needs_a_modulation(shards, source):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, "gen_penalty=noisy-twins", name="transfergan"))
    assert str(caught.value) == (
        "gen_penalty 'noisy-twins' puts noise on the class vector: modulation is missing; name it, or leave "
        "gen_penalty out"
    )
