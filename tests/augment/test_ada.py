"""ADA: p against a naive recursion, the pipe against formulas one number at a time, the warp against pictures known."""

from __future__ import annotations

import math

import pytest
import torch

from hmgan import components, rng
from hmgan.augment.ada import AdaptiveAugment
from hmgan.augment.pipe import COLOUR, GEOMETRY, colour, geometry
from hmgan.augment.resample import SYM6, warped
from hmgan.errors import UserError

KEYS = rng.keys(0, "test", 0, 40)
HALF = torch.tensor(0.5, dtype=torch.float64)


def numbers(count):
    return rng.uniform_rows(KEYS, count).double()


def images(batch=2, size=8):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def normal(u):
    """The quantile of a standard normal, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / math.sqrt(2)) < u else (low, middle)
    return low


# --- how much


def test_p_follows_the_naive_recursion():
    ada = AdaptiveAugment(target=0.6, kimg=0.1, every=4, start=0.3)
    p, seen = 0.3, []
    for step in range(40):
        logit = torch.randn(8, generator=torch.Generator().manual_seed(step)) + 2 * math.cos(step / 6)
        stats = ada.observe(logit, step)
        seen += [1 if s > 0 else -1 for s in logit.tolist()]
        if (step + 1) % 4 == 0:
            p += math.copysign(32 / 100, sum(seen) / len(seen) - 0.6)
            p, seen = min(max(p, 0.0), 1.0), []
        assert float(stats["augment/p"]) == pytest.approx(p, abs=1e-6)


def test_p_goes_from_none_to_all_in_five_hundred_kimg():
    ada = AdaptiveAugment()
    for step in range(400):
        ada.observe(torch.ones(1000), step)
    assert float(ada.p) == pytest.approx(0.8, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kimg": 0.0}, "augment.kimg should be greater than 0, got 0.0"),
        ({"every": 0}, "augment.every should be greater than or equal to 1, got 0"),
        ({"start": 1.5}, "augment.start should be less than or equal to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(UserError) as caught:
        components.check("augment", "ada", settings)
    assert str(caught.value) == text


# --- what


def place(u, p, size, x, y):
    """Where the output pixel (x, y) from the centre comes from: the last transformation is undone first."""
    u = list(u)
    either = 1 - math.sqrt(1 - p)

    def turn(angle, x, y):
        return math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y

    if u[15] < p:
        x, y = x + normal(u[16]) * size / 8, y + normal(u[17]) * size / 8
    if u[13] < either:
        x, y = turn(math.pi * (2 * u[14] - 1), x, y)
    if u[11] < p:
        x, y = x * 2 ** (0.2 * normal(u[12])), y / 2 ** (0.2 * normal(u[12]))
    if u[9] < either:
        x, y = turn(math.pi * (2 * u[10] - 1), x, y)
    if u[7] < p:
        x, y = x * 2 ** (0.2 * normal(u[8])), y * 2 ** (0.2 * normal(u[8]))
    if u[4] < p:
        x, y = x + round((2 * u[5] - 1) * size / 8), y + round((2 * u[6] - 1) * size / 8)
    if u[2] < p:
        for _ in range(int(4 * u[3])):
            x, y = -y, x
    if u[0] < p and u[1] >= 0.5:
        x = -x
    return x, y


def test_geometry_equals_its_transformations_one_by_one():
    u = numbers(GEOMETRY)
    source = geometry(u, HALF, 32)
    for row, matrix in zip(u.tolist(), source, strict=True):
        for x, y in ((0.0, 0.0), (3.0, -5.0)):
            got = matrix @ torch.tensor([x, y, 1.0], dtype=torch.float64)
            assert got.tolist() == pytest.approx([*place(row, 0.5, 32, x, y), 1.0], abs=1e-6)


def test_colour_equals_its_transformations_one_by_one():
    u = numbers(COLOUR)
    factor, added = colour(u, HALF)
    axis = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
    pixel = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
    for row, f, a in zip(u.tolist(), factor, added, strict=True):
        x = pixel.clone()
        if row[0] < 0.5:
            x = x + 0.2 * normal(row[1])
        if row[2] < 0.5:
            x = x * 2 ** (0.5 * normal(row[3]))
        if row[4] < 0.5 and row[5] >= 0.5:
            x = x - 2 * axis * axis.dot(x)
        if row[6] < 0.5:
            angle = math.pi * (2 * row[7] - 1)
            along = axis * axis.dot(x)
            x = along + math.cos(angle) * (x - along) + math.sin(angle) * torch.linalg.cross(axis, x)
        if row[8] < 0.5:
            along = axis * axis.dot(x)
            x = along + 2 ** normal(row[9]) * (x - along)
        torch.testing.assert_close(f @ pixel + a, x)


def test_every_transformation_happens_with_probability_p():
    keys = rng.keys(1, "many", 0, 2000)
    for p in (0.0, 0.2, 1.0):
        source = geometry(rng.uniform_rows(keys, GEOMETRY).double(), torch.tensor(p, dtype=torch.float64), 32)
        factor, added = colour(rng.uniform_rows(keys, COLOUR).double(), torch.tensor(p, dtype=torch.float64))
        area = source[:, :2, :2].det().abs()
        assert float((area.log().abs() > 1e-9).double().mean()) == pytest.approx(p, abs=0.03)  # zooms
        assert float((added.abs().sum(1) > 1e-9).double().mean()) == pytest.approx(p, abs=0.03)  # brightens
        assert float((source[:, :2, :2].det() < 0).double().mean()) == pytest.approx(p / 2, abs=0.03)  # flips
        assert float((factor.det() < 0).double().mean()) == pytest.approx(p / 2, abs=0.03)  # swaps light and dark


# --- the pixels


def matrix(*rows):
    return torch.tensor([[*rows, (0.0, 0.0, 1.0)]], dtype=torch.float64)


def test_the_filter_is_an_orthonormal_wavelet_of_six_vanishing_moments():
    h = torch.tensor(SYM6, dtype=torch.float64)
    assert float(h.sum()) == pytest.approx(math.sqrt(2))
    for shift in range(0, 12, 2):
        assert float((h[shift:] * h[: 12 - shift]).sum()) == pytest.approx(float(shift == 0), abs=1e-11)
    high = h * torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    for moment in range(6):
        assert float((high * torch.arange(12) ** moment).sum()) == pytest.approx(0, abs=1e-5)


def test_whole_pixels_move_exactly_away_from_the_border():
    x = images(1, 32)
    out = warped(x, matrix((1.0, 0.0, 3.0), (0.0, 1.0, -2.0)))
    torch.testing.assert_close(out[:, :, 8:-8, 8:-8], x[:, :, 6:-10, 11:-5])


def test_a_smooth_picture_turns_and_stretches_as_its_formula_does():
    at = torch.arange(32, dtype=torch.float64) - 15.5
    y, x = torch.meshgrid(at, at, indexing="ij")

    def picture(x, y):
        return torch.exp(-((x - 3) ** 2) / 30 - (y + 2) ** 2 / 60)

    for rows in (((0.8, -0.6, 1.3), (0.6, 0.8, -0.4)), ((-1.2, 0.0, 0.0), (0.0, 0.9, 0.5))):
        (a, b, c), (d, e, f) = rows
        out = warped(picture(x, y)[None, None], matrix(*rows))[0, 0]
        from_x, from_y = a * x + b * y + c, d * x + e * y + f
        inside = (from_x.abs() < 15) & (from_y.abs() < 15)  # nothing reflected
        assert inside.double().mean() > 0.6
        # Not closer: the filter's middle is a tenth of a half pixel off its tap, so that a turned picture is late.
        torch.testing.assert_close(out[inside], picture(from_x, from_y)[inside], rtol=0, atol=0.02)


def test_beyond_its_border_a_picture_is_reflected():
    x = images(1, 16)
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    out = warped(x, matrix((1.0, 0.0, 4.0), (0.0, 1.0, 0.0)))
    expected = torch.cat([x[..., 4:], x[..., 11:15].flip(-1)], -1)
    assert (out - expected).abs().mean() < 0.05 * expected.abs().mean()


# --- the whole


def test_nothing_happens_at_p_0():
    x = images(5)
    torch.testing.assert_close(AdaptiveAugment()(x, KEYS[:5]), x)


def test_a_samples_changes_depend_on_its_key_alone():
    ada, x = AdaptiveAugment(start=0.7), images(6)
    whole = ada(x, KEYS[:6])
    torch.testing.assert_close(ada(x[2:4], KEYS[2:4]), whole[2:4])
    assert not torch.allclose(ada(x, KEYS[6:12]), whole)


def test_gradients_reach_the_images_to_second_order():
    ada, x = AdaptiveAugment(start=1.0), images(1, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ada(x, KEYS[:1]), x, fast_mode=True)
    weight = images(1, 8)
    assert torch.autograd.gradgradcheck(lambda x: (ada(x, KEYS[:1]) ** 2 * weight).sum(), x, fast_mode=True)
