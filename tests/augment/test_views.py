from __future__ import annotations

import colorsys
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan.augment.views import ViewParams, Views

STILL = dict(
    crop_scale=(1.0, 1.0),
    crop_ratio=(1.0, 1.0),
    flip=0.0,
    jitter_probability=0.0,
    gray=0.0,
    blur=(0.0, 0.0),
    solarize=(0.0, 0.0),
)


def images(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def only(**numbers) -> Views:
    """Views that do nothing but what is asked for."""
    views = Views()
    for name, value in (STILL | numbers).items():
        setattr(views, name, value)
    return views


def params_of(views: Views, keys, resolution: int = 16) -> tuple[ViewParams, ViewParams]:
    first, second = (ViewParams(*view.unbind(-1)) for view in views.draw(keys, resolution))
    return first, second


def test_a_sample_has_the_same_views_in_any_batch():
    x, views = images(9), Views()
    whole = views(x, range(9))
    for split in ([0, 1, 2], [8, 3], [5], [7, 6, 4, 0]):
        part = views(x[split], split)
        for view, expected in zip(part, whole, strict=True):
            assert (view - expected[split]).abs().max() <= 1e-6


def test_keys_and_views_differ_from_each_other():
    same = images(1).expand(3, -1, -1, -1)
    # the second key is the first in its low 32 bits, which are all that torch's generator would look at
    first, second = Views()(same, [1, 1 + 2**32, -1])
    for a, b in itertools.combinations([*first, *second], 2):
        assert (a - b).abs().mean() > 0.01


def test_the_global_random_stream_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    once = Views()(images(2), [1, 2])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert all(torch.equal(a, b) for a, b in zip(once, Views()(images(2), [1, 2]), strict=True))
    torch.set_rng_state(state)


def test_nothing_drawn_is_nothing_done():
    x = images(3)
    for view in only()(x, range(3)):
        assert (view - x).abs().max() < 1e-5


def test_a_flip_is_a_mirror_image():
    x = images(3)
    for view in only(flip=1.0)(x, range(3)):
        assert (view - x.flip(-1)).abs().max() < 1e-5


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_crop_is_the_bicubic_resize_of_its_slice(flip):
    x, views = images(8, 32), only(crop_scale=(0.3, 0.6), crop_ratio=(3 / 4, 4 / 3), flip=flip)
    got = views(x, range(8))[0]
    p = params_of(views, range(8), 32)[0]
    for i in range(8):
        w, h = (round(32 / abs(float(scale[i]))) for scale in (p.scale_x, p.scale_y))
        shift = 31 - p.shift_x[i] if flip else p.shift_x[i]
        left, top = (round(float(0.5 - (s + 0.5) * k / 32)) for s, k in ((shift, w), (p.shift_y[i], h)))
        assert 0 <= left <= 32 - w
        assert 0 <= top <= 32 - h
        cut = x[i : i + 1, :, top : top + h, left : left + w]
        wanted = F.interpolate(cut, (32, 32), mode="bicubic", align_corners=False)[0].clamp(-1, 1)
        wanted = wanted.flip(-1) if flip else wanted
        # at its edges the slice alone lacks the neighbours that the image has
        inner = slice(5, 27)
        assert (got[i] - wanted)[:, inner, inner].abs().max() < 1e-4


def test_crops_keep_to_their_area_and_ratio():
    p = params_of(Views(), range(2000), 256)[0]
    w, h = 256 / p.scale_x.abs(), 256 / p.scale_y
    assert (w <= 256).all()
    assert (h <= 256).all()
    area, ratio = w * h / 256**2, w / h
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.95
    assert 0.73 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.37
    assert ratio.log().mean().abs() < 0.02


def test_a_crop_that_never_fits_is_the_whole_image():
    views = only(crop_scale=(1.0, 1.0), crop_ratio=(2.0, 3.0))
    assert (views(images(2), [0, 1])[0] - images(2)).abs().max() < 1e-5


def test_effects_happen_as_often_as_asked():
    first, second = params_of(Views(), range(4000))
    wanted = {"is_jittered": (0.8, 0.8), "is_gray": (0.2, 0.2), "is_blurred": (0.5, 0.1), "is_solarized": (0, 0.2)}
    for name, rates in wanted.items():
        for view, rate in zip((first, second), rates, strict=True):
            assert float(getattr(view, name).mean()) == pytest.approx(rate, abs=0.03)
    assert float((first.scale_x < 0).double().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.8, 1.2),
        ("hue", -0.2 * torch.pi, 0.2 * torch.pi),
        ("threshold", 0.0, 0.5),
    ],
)
def test_amounts_fill_their_range(name, low, high):
    values = getattr(params_of(Views(), range(2000))[1], name)
    width = high - low
    assert low <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high


def test_the_jitter_is_brightness_contrast_saturation_hue_in_this_order():
    x, views = images(2, 4), only(jitter_probability=1.0)
    got = (views(x, [3, 4])[0] + 1) / 2
    p = params_of(views, [3, 4], 4)[0]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    for i in range(2):
        image = ((x[i] + 1) / 2 * p.brightness[i].float()).clamp(0, 1)
        mean = (image * weights).sum(0).mean()
        image = (mean + p.contrast[i].float() * (image - mean)).clamp(0, 1)
        gray = (image * weights).sum(0)
        image = (gray + p.saturation[i].float() * (image - gray)).clamp(0, 1)
        for r, c in itertools.product(range(4), range(4)):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, r, c].tolist())
            turned = colorsys.hsv_to_rgb((hue + float(p.hue[i]) / (2 * torch.pi)) % 1, saturation, value)
            assert got[i, :, r, c].tolist() == pytest.approx(turned, abs=1e-4)


def test_grayscale_makes_the_channels_equal():
    x = images(2)
    view = only(gray=1.0)(x, [0, 1])[0]
    wanted = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    assert (view - wanted).abs().max() < 1e-5


def test_the_blur_is_a_gaussian_of_three_pixels():
    x = images(2)
    first, second = only(blur=(1.0, 0.0))(x, [0, 1])
    taps = torch.exp(-torch.tensor([-1.0, 0.0, 1.0]).square() / (2 * 1.05**2))
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    wanted = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel.expand(3, 1, 3, 3), groups=3)
    assert (first - wanted).abs().max() < 1e-5
    assert (second - x).abs().max() < 1e-5


def test_solarisation_inverts_the_bright_pixels_of_the_second_view():
    x = images(2)
    first, second = only(solarize=(0.0, 1.0), solarize_thresholds=(0.3, 0.3))(x, [0, 1])
    sure = ((x + 1) / 2 - 0.3).abs() > 1e-4  # rounding may move a pixel across the threshold
    assert ((second - torch.where((x + 1) / 2 < 0.3, x, -x)).abs()[sure] < 1e-5).all()
    assert (first - x).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["colour", "grayscale", "black"])
def test_gradients_reach_every_image_and_are_finite(kind):
    x = {
        "colour": images(12),
        "grayscale": images(12)[:, :1].repeat(1, 3, 1, 1),
        "black": torch.full_like(images(12), -1),
    }
    x = x[kind].requires_grad_()
    a, b = Views()(x, range(12))
    (a.square() + b).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    if kind != "black":  # where clipping rightly stops some of it
        assert (x.grad.flatten(1).abs().sum(1) > 1).all()


def test_the_gradient_is_that_of_finite_differences():
    # away from 0 and 1, where clipping has a corner
    x = (images(2, 5).double() * 0.4).requires_grad_()
    views = Views()
    views.solarize = (0.0, 0.0)
    assert torch.autograd.gradcheck(lambda x: views(x, [2, 5]), x, eps=1e-7, atol=1e-4, fast_mode=True)


def test_the_input_is_not_written_to():
    x = images(3)
    before = x.clone()
    Views()(x, range(3))
    assert torch.equal(x, before)


def test_low_precision_comes_back_as_it_went_in_and_is_computed_in_full():
    x = images(4)
    full = Views()(x, range(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(Views()(x, range(4)), full, strict=True))
    half = Views()(x.bfloat16(), range(4))
    assert {view.dtype for view in half} == {torch.bfloat16}


def test_the_smallest_images_work_and_values_stay_in_range():
    for size in (4, 8):
        for view in Views()(images(64, size) * 3, range(64)):
            assert view.isfinite().all()
            assert view.abs().max() <= 1


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"square RGB images .* got \[2, 1, 16, 16\]"):
        Views()(images(2)[:, :1], [0, 1])
    with pytest.raises(ValueError, match=r"got \[2, 3, 16, 8\]"):
        Views()(images(2)[..., :8], [0, 1])
    with pytest.raises(ValueError, match="got 1 keys for 2 images"):
        Views()(images(2), [0])
