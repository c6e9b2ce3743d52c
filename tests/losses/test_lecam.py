"""LeCam against the naive recursion of its anchors."""

from __future__ import annotations

import pytest
import torch

from hmgan.errors import UserError
from hmgan.losses.lecam import LeCam


def logits(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, generator=generator, dtype=torch.float64), torch.randn(5, generator=generator).double()


def test_it_equals_the_naive_recursion():
    regularizer = LeCam(decay=0.9).double()
    anchors = None
    for step in range(6):
        real, fake = logits(step)
        means = (sum(real.tolist()) / 5, sum(fake.tolist()) / 5)
        anchors = means if anchors is None else [0.9 * a + 0.1 * m for a, m in zip(anchors, means, strict=True)]
        naive = sum(max(s - anchors[1], 0) ** 2 for s in real.tolist()) / 5
        naive += sum(max(anchors[0] - t, 0) ** 2 for t in fake.tolist()) / 5
        assert float(regularizer(real, fake)) == pytest.approx(naive, rel=1e-6)


def test_it_pulls_far_reals_down_and_far_fakes_up_and_the_anchors_hold_still():
    real, fake = torch.tensor([3.0, 2.0], requires_grad=True), torch.tensor([-2.0, -3.0], requires_grad=True)
    regularizer = LeCam()
    regularizer(real, fake).backward()
    assert (real.grad > 0).all()
    assert (fake.grad < 0).all()
    # The anchors are -2.5 and 2.5: 2 (3 + 2.5) / 2, and so on.
    assert real.grad.tolist() == [5.5, 4.5]
    assert not regularizer.anchor_real.requires_grad


def test_logits_that_do_not_reach_beyond_the_anchors_are_left_alone():
    real, fake = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
    assert float(LeCam()(real, fake)) == 0


def test_what_it_remembers_is_in_its_state():
    regularizer, copy = LeCam(), LeCam()
    for step in range(3):
        regularizer(*logits(step))
    copy.load_state_dict(regularizer.state_dict())
    assert torch.equal(copy(*logits(9)), regularizer(*logits(9)))


def test_an_average_that_never_moves_is_refused():
    with pytest.raises(UserError, match=r"^regularizer\.decay must be from 0 to below 1, got 1\.0$"):
        LeCam(decay=1.0)
