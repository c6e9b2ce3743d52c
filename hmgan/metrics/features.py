"""Feature extractors: uint8 images in, float64 features out, by one protocol. B batch, F features, H/W pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as fn
from safetensors.torch import load
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.metrics.small_cnn import SmallCNN
from hmgan.metrics.squeezenet import SqueezeNet

ASSETS = Path(__file__).resolve().parents[1] / "assets"
CPU_BATCH = 16  # Activations of more images fall out of a core's cache: 64 at once take twice as long per image.


class Scorer(Protocol):
    """A network that scores: an extractor, or a perceptual distance."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...  # sha256 of its weights
    @property
    def resizer(self) -> str: ...


class Extractor(nn.Module):
    """A frozen trunk behind one resizer, so that a score names everything it depends on.

    Args:
        trunk: [B, 3, side, side] float RGB in 0..255 -> [B, dim]; it normalises its input itself.
        name: goes into the metric's name, as in "FD-squeezenet".
        digest: sha256 of the weight file.
        dim: F.
        side: pixels of the square that images are resized to, whatever their shape; 0 where the trunk does that.

    Shapes: [B, 3, H, W] uint8 -> [B, F] float64.
    Raises: ValueError for other dtypes or shapes: a float image would be scored in the wrong range.
    """

    def __init__(self, trunk: nn.Module, *, name: str, digest: str, dim: int, side: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.name, self.digest, self.dim, self.side = name, digest, dim, side
        self.requires_grad_(False).eval()

    def metric(self, measure: str) -> str:
        """A measure's full name: scores of two extractors cannot be compared."""
        return f"{measure}-{self.name}"

    @property
    def resizer(self) -> str:
        """How images are resized, for the protocol."""
        return f"bicubic-antialias-{self.side}"

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor) -> Tensor:
        if images_B3HW.dtype != torch.uint8 or images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
            got = f"{images_B3HW.dtype} {list(images_B3HW.shape)}"
            raise ValueError(f"an extractor needs uint8 [B, 3, H, W], got {got}; quantise with to_uint8 first")
        # The precision is part of the protocol: neither autocast nor TF32 may move a score between machines.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with torch.autocast(images_B3HW.device.type, enabled=False), exact:
            size = CPU_BATCH if images_B3HW.device.type == "cpu" else max(1, len(images_B3HW))
            return torch.cat([self.features(chunk) for chunk in images_B3HW.split(size)]).double()

    def features(self, images_B3HW: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 -> [B, F] in the trunk's precision."""
        return self.trunk(self.resize(images_B3HW))

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 -> [B, 3, side, side] float32 in 0..255. Bicubic overshoots, hence the clamp."""
        size = (self.side, self.side)
        resized = fn.interpolate(images_B3HW.float(), size, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 255)


class SideBySide(nn.Module):
    """Several extractors shown the same images, their features next to each other, so that images are drawn once.

    Shapes: [B, 3, H, W] uint8 -> [B, F] float64, F the sum of theirs.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(extractors)
        self.dims = [extractor.dim for extractor in extractors]
        self.dim = sum(self.dims)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return torch.cat([extractor(images_B3HW) for extractor in self.extractors], dim=1)


def load_squeezenet() -> Extractor:
    """SqueezeNet v1.1 from the package's own assets: small, offline, and never to be called FID."""
    config, digest, weights = _asset("squeezenet")
    trunk = SqueezeNet(mean=config["mean"])
    # Channels last: the same numbers to rounding, at twice the speed on a CPU.
    form = torch.channels_last
    weights = {name: w.contiguous(memory_format=form) if w.ndim == 4 else w for name, w in weights.items()}
    trunk.load_state_dict(weights, assign=True)
    return Extractor(trunk, name="squeezenet", digest=digest, dim=trunk.dim, side=config["side"])


def load_judge() -> Extractor:
    """The small CNN of scripts/train_judge.py: a second opinion in a space of its own."""
    config, digest, weights = _asset("judge")
    trunk = SmallCNN()
    trunk.load_state_dict(weights, assign=True)
    return Extractor(trunk, name="judge", digest=digest, dim=trunk.dim, side=config["side"])


EMBEDDED: dict[str, Callable[[], Extractor]] = {"squeezenet": load_squeezenet, "judge": load_judge}


def _asset(name: str) -> tuple[dict[str, Any], str, dict[str, Tensor]]:
    """A network's config.json, the hash of its weights, and the weights. Raises UserError for other weights."""
    folder = ASSETS / name
    config, path = json.loads((folder / "config.json").read_text(encoding="utf-8")), folder / "model.safetensors"
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != config["weights_sha256"]:
        raise UserError(f"{path} hashes to {digest[:12]}, not as released; reinstall hmgan")
    return config, digest, load(raw)
