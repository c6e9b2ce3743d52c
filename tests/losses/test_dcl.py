"""The dual contrastive loss against its double loop; it is not decoupled contrastive learning."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan.losses.base import Evidence
from hmgan.losses.dcl import DualContrastive, DualContrastiveGame, dual_contrastive


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(real, fake):
    """mean_i log(1 + sum_j e^(t_j - s_i)) + mean_j log(1 + sum_i e^(t_j - s_i))."""
    s, t = real.tolist(), fake.tolist()
    first = sum(math.log(1 + sum(math.exp(tj - si) for tj in t)) for si in s) / len(s)
    second = sum(math.log(1 + sum(math.exp(tj - si) for si in s)) for tj in t) / len(t)
    return first + second


@pytest.mark.parametrize(("reals", "fakes"), [(1, 1), (4, 4), (5, 3)])
def test_it_equals_the_double_loop(reals, fakes):
    s, t = 2 * normal(reals), 2 * normal(fakes, seed=1)
    assert float(dual_contrastive(s, t)) == pytest.approx(naive(s, t), rel=1e-12)


def test_inside_are_sums_so_that_it_grows_with_the_batch():
    for batch in (1, 8, 64):
        zeros = torch.zeros(batch, dtype=torch.float64)
        assert float(dual_contrastive(zeros, zeros)) == pytest.approx(2 * math.log(1 + batch), rel=1e-12)


def test_it_is_not_decoupled_contrastive_learning():
    # That one leaves the positive out of its denominator: log(sum), not log(1 + sum).
    s, t = normal(4), normal(4, seed=1)
    decoupled = (t.logsumexp(0) - s).mean() + (t + (-s).logsumexp(0)).mean()
    assert abs(float(dual_contrastive(s, t) - decoupled)) > 0.1
    # Where every real is told from every fake, this loss is at its floor of 0; the other has none.
    assert float(dual_contrastive(s + 100, t)) == pytest.approx(0, abs=1e-12)


def test_it_pulls_reals_up_and_fakes_down():
    s, t = normal(4).requires_grad_(), normal(4, seed=1).requires_grad_()
    dual_contrastive(s, t).backward()
    assert (s.grad < 0).all()
    assert (t.grad > 0).all()


def test_logits_far_out_stay_finite():
    s, t = torch.tensor([1e4, -1e4]), torch.tensor([1e4, -1e4])
    assert math.isfinite(float(dual_contrastive(s, t)))


def test_as_a_component_it_uses_the_logits_and_makes_no_views():
    def unused():
        raise AssertionError("views cost four batches of D")

    s, t = normal(4), normal(4, seed=1)
    got = DualContrastive()(Evidence(s, t, unused))
    assert float(got) == pytest.approx(naive(s, t), rel=1e-12)


def test_as_the_objective_the_generators_loss_is_the_discriminators_with_the_roles_exchanged():
    s, t = normal(5), normal(3, seed=1).requires_grad_()
    game = DualContrastiveGame()
    assert float(game.disc(s, t).detach()) == pytest.approx(naive(s, t), rel=1e-12)
    loss = game.gen(t, lambda: s)
    assert float(loss.detach()) == pytest.approx(naive(t.detach(), s), rel=1e-12)
    loss.backward()
    assert (t.grad < 0).all()  # what G learns is to raise the fakes' logits
