"""The logistic loss (Eq. 8), R1 and its heuristic."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan.losses.adversarial import Hinge, Logistic
from hmgan.losses.r1 import gamma_heuristic, r1_penalty


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def unused():
    raise AssertionError("the reals' logits cost a pass of D")


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_discriminators_loss_is_the_cross_entropy_of_real_and_fake():
    real, fake = normal(5), normal(3)  # the two sides need not be of one size
    naive = -sum(math.log(sigmoid(s)) for s in real.tolist()) / 5
    naive -= sum(math.log(1 - sigmoid(t)) for t in fake.tolist()) / 3
    assert float(Logistic().disc(real, fake)) == pytest.approx(naive, rel=1e-12)


def test_the_generators_loss_is_the_non_saturating_form():
    fake = normal(4)
    naive = -sum(math.log(sigmoid(t)) for t in fake.tolist()) / 4
    assert float(Logistic().gen(fake, unused)) == pytest.approx(naive, rel=1e-12)
    # Where D is sure of a fake, the saturating form has no gradient; this one has its full one.
    sure = torch.tensor([-30.0], requires_grad=True)
    Logistic().gen(sure, unused).backward()
    assert float(sure.grad) == pytest.approx(-1)


def test_hinge_stops_at_the_margin_for_the_discriminator_and_never_for_the_generator():
    real, fake = normal(5), normal(3)
    naive = sum(max(0, 1 - s) for s in real.tolist()) / 5 + sum(max(0, 1 + t) for t in fake.tolist()) / 3
    assert float(Hinge().disc(real, fake)) == pytest.approx(naive, rel=1e-12)
    assert float(Hinge().gen(fake, unused)) == pytest.approx(-sum(fake.tolist()) / 3, rel=1e-12)
    assert float(Hinge().disc(real + 10, fake - 10)) == 0


def test_logits_far_out_stay_finite():
    far = torch.tensor([1e4, -1e4])
    assert float(Logistic().disc(far, far)) == pytest.approx(1e4)
    assert float(Logistic().gen(far, unused)) == pytest.approx(5e3)


def test_r1_of_a_quadratic_is_its_closed_form():
    # D(x) = x^T A x / 2 + b^T x with symmetric A has the gradient A x + b.
    images = normal(6, 3, 2, 2).requires_grad_()
    a, b = normal(12, 12), normal(12)
    a = a + a.T
    flat = images.flatten(1)
    logit = ((flat @ a) * flat).sum(1) / 2 + flat @ b
    expected = (flat @ a + b).square().sum(1).mean()
    torch.testing.assert_close(r1_penalty(logit, images), expected)


def test_the_gradient_of_r1_reaches_the_discriminator():
    # D(x) = w^T x: the penalty is |w|^2 and its gradient 2 w.
    w, images = normal(12).requires_grad_(), normal(4, 3, 2, 2).requires_grad_()
    r1_penalty(images.flatten(1) @ w, images).backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())


def test_r1_sums_over_pixels_and_averages_over_samples():
    images = normal(2, 3, 4, 4).requires_grad_()
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)
    logit = (images.sum((1, 2, 3))) * scale
    assert float(r1_penalty(logit, images)) == pytest.approx(48 * (1 + 9) / 2)


@pytest.mark.parametrize(("resolution", "batch", "gamma"), [(256, 32, 0.4096), (32, 16, 0.0128), (1024, 4, 52.4288)])
def test_the_heuristic_is_two_ten_thousandths_of_the_pixels_per_image_of_the_batch(resolution, batch, gamma):
    assert gamma_heuristic(resolution, batch) == pytest.approx(gamma, rel=1e-12)
