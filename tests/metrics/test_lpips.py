"""LPIPS from a TorchScript file: the hash decides, the file's own features are compared. A tiny network stands in."""

import hashlib
import warnings

import pytest
import tomli_w
import torch
from torch import Tensor, nn

from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.metrics.networks import load_perceptual


class TinyLPIPS(nn.Module):
    """The interface of the real one: float images in 0..255, features whose squared distance is LPIPS."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert not resize_images
        assert return_lpips
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1) / 255


class Flat(nn.Module):
    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        return x.flatten()


@pytest.fixture
def add(tmp_path):
    """A registry whose perceptual `tiny` is the network in a file."""

    def write(network: nn.Module) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(network), tmp_path / "tiny.pt")
        digest = hashlib.sha256((tmp_path / "tiny.pt").read_bytes()).hexdigest()
        folder = tmp_path / "registry" / "perceptuals"
        folder.mkdir(parents=True)
        (folder / "tiny.toml").write_text(tomli_w.dumps({"path": "../../tiny.pt", "sha256": digest}))
        entries.add(tmp_path / "registry")
        return digest

    return write


def images(px: int) -> Tensor:
    return 255 * torch.rand(3, 3, px, px, generator=torch.Generator().manual_seed(px), dtype=torch.float64)


def test_it_is_the_squared_distance_of_the_files_features(add) -> None:
    digest = add(TinyLPIPS())
    distance = load_perceptual("tiny", torch.float64)
    a, b = images(8), images(8).flip(0)
    wanted = []
    for x, y in zip(a, b, strict=True):
        means, peaks = (x - y).mean(dim=(1, 2)), x.amax(dim=(1, 2)) - y.amax(dim=(1, 2))
        wanted.append(float((means**2).sum() + (peaks**2).sum()) / 255**2)
    torch.testing.assert_close(distance(a, b).double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=1e-9)
    assert (distance.name, distance.digest, distance.resizer) == ("tiny", digest, "area-above-256")


def test_images_above_256_px_are_averaged_down_and_others_stay(add) -> None:
    add(TinyLPIPS())
    distance = load_perceptual("tiny")
    a, b = images(512).float(), images(512).float().flip(0)
    halves = [x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)) for x in (a, b)]
    torch.testing.assert_close(distance(a, b), distance(*halves), rtol=1e-4, atol=1e-7)


def test_features_that_are_no_rows_are_a_user_error(add) -> None:
    add(Flat())
    with pytest.raises(UserError, match=r"perceptual tiny gave \[576\] for 3 images, wanted a row for each"):
        load_perceptual("tiny")(images(8), images(8))


def test_the_shipped_files_hash_decides_and_the_embedded_one_takes_no_file(tmp_path) -> None:
    other = tmp_path / "vgg16.pt"
    other.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"perceptual vgg16-lpips: .* the entry says b437eb095fea; it was not loaded"):
        load_perceptual(f"vgg16-lpips:{other}")
    with pytest.raises(UserError, match="perceptual squeezenet-layers is embedded and takes no file"):
        load_perceptual(f"squeezenet-layers:{other}")
    with pytest.raises(UserError, match="no perceptual named 'vgg'"):
        load_perceptual("vgg")
