"""Path-length regularisation against Jacobians, and in a run."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from backbones.test_stylegan2 import SMALL
from importers.envelopes import stirred
from torch.func import jacrev

from hmgan import rng
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.losses.path_length import PathLength, path_lengths
from hmgan.train.prepare import prepare


def test_lengths_are_those_of_the_jacobian():
    network = stirred("backbone", "stylegan2", **{**SMALL, "resolution": 8, "channels": [3, 3], "w_dim": 5}).double()
    drawn = network.latents(range(2))
    styles = [w.double().requires_grad_() for w in network.styles(drawn._replace(z=drawn.z.double()))]
    noise = [n.double() for n in drawn.noise]
    got = path_lengths(network.synthesise(styles, noise).image, styles, [11, 12])
    for b in range(2):
        probe = rng.normal_rows([11 + b], 3 * 64).double().view(3, 8, 8) / math.sqrt(64)

        def image(w_LW, b=b):
            return network.synthesise(list(w_LW[:, None]), [n[b : b + 1] for n in noise]).image[0]

        jacobian = jacrev(image)(torch.stack([w[b].detach() for w in styles]))  # [3, H, W, L, W]
        moved = torch.einsum("chw,chwls->ls", probe, jacobian)
        assert float(got[b].detach()) == pytest.approx(float(moved.square().sum(1).mean().sqrt()))


def test_the_penalty_is_the_square_of_what_a_length_is_off_its_running_mean():
    penalty = PathLength(2.0, 4)
    assert [penalty.due(step) for step in range(5)] == [True, False, False, False, True]
    lengths = torch.tensor([1.0, 3.0])
    assert float(penalty(lengths)) == pytest.approx(((1 - 0.02) ** 2 + (3 - 0.02) ** 2) / 2)
    assert float(penalty.mean) == pytest.approx(0.02)


@pytest.mark.parametrize("backbone", ["stylegan2", "stylegan3"])
def test_a_pretraining_or_a_transfer_is_regularised_in_one_step_of_four(backbone, shards, tmp_path):
    chosen = ("task.path_length=2.0", "task.path_every=4")
    pretraining = tiny.pretraining(shards, *chosen, backbone=backbone)
    transfer = tiny.transfer(shards, tiny.write_source(tmp_path / "s", backbone=backbone), *chosen)
    for experiment in (pretraining, transfer):
        trainer = tiny.make_trainer(experiment, tmp_path)
        images = batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))
        seen = []
        for trainer.step in range(5):
            seen.append(trainer.take_step(next(images)))
        assert ["loss/path" in stats for stats in seen] == [True, False, False, False, True]
        assert float(trainer.task.path.mean) > 0
        (first, *_) = trainer.task.gen_optimizer.param_groups
        assert first["betas"] == pytest.approx((0.0, 0.99**0.8))
        # The running mean is kept with the other state of the run.
        assert "path" in trainer.task.kept()


def test_a_backbone_without_styles_of_its_own_layers_is_refused(shards):
    with pytest.raises(UserError, match=r"^task\.path_length is of backbones stylegan2 and stylegan3; leave it out$"):
        prepare(tiny.pretraining(shards, "task.path_length=2.0"))
