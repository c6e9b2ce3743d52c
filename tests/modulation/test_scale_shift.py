"""Batch statistics adaptation against what it says, channel by channel."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.class_nets import OneHot
from hmgan.modulation.scale_shift import ScaleShift
from modulation.naive import generator, latents, stir

CLASSES = 3


def network(**settings: object) -> TransferGenerator:
    source = generator().source.requires_grad_(False)
    return TransferGenerator(source, OneHot(CLASSES), ScaleShift(source, CLASSES, **settings).double())


def edits(network: TransferGenerator):
    return network.edits_of(torch.eye(CLASSES, dtype=torch.float64))


def test_it_trains_two_numbers_per_class_and_channel_of_every_norm():
    made = network()
    channels = [norm.channels for norm in made.source.norms().values()]
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 2 * CLASSES * sum(channels)


def test_it_starts_from_the_source_for_every_class():
    made = network()
    drawn = latents(made, 3)
    with torch.no_grad():
        expected, got = made.source(drawn), made.render(drawn, edits(made), torch.tensor([2, 0, 1]))
    assert torch.equal(got.image, expected.image)


def test_a_channel_is_scaled_and_shifted_behind_its_norm():
    made = network()
    stir(made)
    modulation = made.trained["modulation"]
    for index, (name, norm) in enumerate(made.source.norms().items()):
        edit = edits(made).styles[name]
        x = torch.randn(2, norm.channels, 4, 4, dtype=torch.float64)
        w_BW = torch.randn(2, 6, dtype=torch.float64)
        plain_BCHW = norm(x, w_BW, type(edits(made))())
        scale, shift = edit.style(*norm.style(w_BW).chunk(2, 1), (1, 0, 1))
        edited_BCHW = torch.nn.functional.instance_norm(x, eps=1e-5) * scale[..., None, None] + shift[..., None, None]
        for b, label in enumerate([0, 2]):
            for c in range(norm.channels):
                g, t = modulation.scales[index][label, c], modulation.shifts[index][label, c]
                torch.testing.assert_close(edited_BCHW[b, c], (1 + g) * plain_BCHW[b, c] + t, rtol=1e-6, atol=1e-6)


def test_its_penalty_is_the_weighted_sum_over_norms_of_mean_squares():
    made = network(pull=0.5)
    assert made.penalties()["loss/scale-shift"].item() == 0
    stir(made)
    modulation = made.trained["modulation"]
    naive = 0.0
    for table in (*modulation.scales, *modulation.shifts):
        numbers = table.flatten().tolist()
        naive += sum(x * x for x in numbers) / len(numbers)
    assert math.isclose(made.penalties()["loss/scale-shift"].item(), 0.5 * naive, rel_tol=1e-12)


@pytest.mark.parametrize("init", ["align", "random"])
def test_other_starts_are_away_from_the_source(init):
    made = network(init=init)
    assert all(bool(p.any()) for p in made.trained["modulation"].parameters())
