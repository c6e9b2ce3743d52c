"""The trunk and its protocol, against numpy, Pillow and the weight file itself."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from hmgan.errors import UserError
from hmgan.metrics import features
from hmgan.metrics.features import ASSETS, Extractor
from hmgan.metrics.networks import load_extractor

FOLDER = ASSETS / "squeezenet"


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("squeezenet")


def textured(n: int, px: int, seed: int = 0) -> torch.Tensor:
    """[n, 3, px, px] uint8: smooth colour fields, so that no channel or axis can be swapped unseen."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (px, px), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def numpy_conv(x_CHW: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, pad: int) -> np.ndarray:
    x_CHW = np.pad(x_CHW, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x_CHW, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    return np.maximum(np.tensordot(weight, windows, ([1, 2, 3], [0, 3, 4])) + bias[:, None, None], 0)


def numpy_pool(x_CHW: np.ndarray) -> np.ndarray:
    """3x3, stride 2; a last window may hang over the edge (Caffe rounds up)."""
    side = -(-(x_CHW.shape[1] - 3) // 2) + 1
    cells = [
        [x_CHW[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(1, 2)) for j in range(side)] for i in range(side)
    ]
    return np.array(cells).transpose(2, 0, 1)


def numpy_features(rgb_3HW: np.ndarray) -> np.ndarray:
    """The whole trunk in float64, written from the v1.1 layer table."""
    file = load_file(FOLDER / "model.safetensors")

    def conv(name: str, x: np.ndarray, stride: int = 1, pad: int = 0) -> np.ndarray:
        return numpy_conv(x, file[f"{name}.weight"].astype(float), file[f"{name}.bias"].astype(float), stride, pad)

    def fire(i: int, x: np.ndarray) -> np.ndarray:
        x = conv(f"fire{i}.squeeze1x1", x)
        return np.concatenate([conv(f"fire{i}.expand1x1", x), conv(f"fire{i}.expand3x3", x, pad=1)])

    red, green, blue = rgb_3HW.astype(float)
    x = numpy_pool(conv("conv1", np.stack([blue - 104, green - 117, red - 123]), stride=2))
    for i in range(2, 10):
        x = fire(i, x)
        if i in (3, 5):
            x = numpy_pool(x)
    return x.mean(axis=(1, 2))


def test_features_equal_an_independent_numpy_network(extractor: Extractor) -> None:
    images = textured(2, extractor.side)
    expected = np.stack([numpy_features(image) for image in images.numpy()])
    assert expected.std() > 0.1
    np.testing.assert_allclose(extractor(images).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [94, 95, 97])
def test_pools_round_up_like_the_original_at_every_remainder(extractor: Extractor, side: int) -> None:
    image = textured(1, side)
    got = extractor.trunk(image.float())[0]
    np.testing.assert_allclose(got.numpy(), numpy_features(image[0].numpy()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("px", [32, 96, 256])
def test_resizing_agrees_with_pillow_in_float(extractor: Extractor, px: int) -> None:
    image = textured(1, px)
    side = extractor.side
    channels = [
        Image.fromarray(c.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC) for c in image[0].numpy()
    ]
    expected = np.stack([np.asarray(c) for c in channels]).clip(0, 255)
    np.testing.assert_allclose(extractor.resize(image)[0].numpy(), expected, atol=2e-2)


def test_features_are_float64_and_do_not_depend_on_the_batch(extractor: Extractor) -> None:
    images = textured(features.CPU_BATCH + 3, 32)
    together = extractor(images)
    alone = torch.cat([extractor(image[None]) for image in images])
    assert together.dtype == torch.float64
    assert together.shape == (len(images), extractor.dim) == (len(images), 512)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_extractor_is_frozen_and_ignores_autocast(extractor: Extractor) -> None:
    images = textured(2, 32)
    assert not any(weight.requires_grad for weight in extractor.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(images), extractor(images))
        inside = extractor(images)
    assert torch.equal(inside, extractor(images))


def test_digest_is_the_weight_files_and_the_config_knows_it(extractor: Extractor) -> None:
    digest = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    config = json.loads((FOLDER / "config.json").read_text())
    assert extractor.digest == digest == config["weights_sha256"]
    assert extractor.resizer == f"{config['resize']}-{config['side']}" == "bicubic-antialias-96"
    assert not extractor.training


def test_a_damaged_weight_file_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "squeezenet"
    folder.mkdir()
    (folder / "config.json").write_text((FOLDER / "config.json").read_text())
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.setattr(features, "ASSETS", tmp_path)
    with pytest.raises(UserError, match="not as released; reinstall hmgan"):
        load_extractor("squeezenet")


def test_an_unknown_extractor_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="no extractor named 'squeeznet'; did you mean 'squeezenet'"):
        load_extractor("squeeznet")
    with pytest.raises(UserError, match="no extractor named 'xyz'; known: inception, judge, squeezenet"):
        load_extractor("xyz")


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8)])
def test_other_than_uint8_batches_are_refused(extractor: Extractor, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs uint8 \[B, 3, H, W\], got"):
        extractor(images)
