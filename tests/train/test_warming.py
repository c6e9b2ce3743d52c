"""The moving average: its half-life at first, and what it takes as it is."""

from __future__ import annotations

import pytest
import torch
from importers.envelopes import SMALL, stirred

from hmgan.train.optim import moving_average


def test_the_half_life_is_at_most_a_share_of_the_images_so_far():
    network = torch.nn.Linear(1, 1)
    average = moving_average(network, batch=10, kimg=1.0, power=1e9, warmup=0.05)
    for step in range(1, 4000):
        average.update()
        if step in (10, 100, 1999, 3999):
            images = min(1000.0, 0.05 * 10 * max(1, int(average.step)))
            assert average.get_current_decay() == pytest.approx(0.5 ** (10 / images))


def test_running_means_are_copied_and_weights_averaged():
    network = stirred("backbone", "stylegan2", **SMALL)
    average = moving_average(network, batch=10, kimg=10.0, power=1.0)
    average.update()
    with torch.no_grad():
        network.mapping.w_avg += 1.0
        network.mapping.fc0.bias += 1.0
    before = average.ema_model.mapping.fc0.bias.clone()
    for _ in range(3):
        average.update()
    assert torch.equal(average.ema_model.mapping.w_avg, network.mapping.w_avg)
    kept = average.ema_model.mapping.fc0.bias
    assert bool((kept > before).all())
    assert bool((kept < network.mapping.fc0.bias).all())
