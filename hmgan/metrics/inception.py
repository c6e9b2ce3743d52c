"""Inception as a TorchScript file, and the names FID and KID for its scores. B batch, F features, H/W pixels.

A TorchScript archive is code: loading one runs what its author wrote. So the file's hash is first compared with the one
in the registry entry, and the bytes that were hashed are the bytes that are loaded.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from urllib.request import urlopen

import torch
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.files import write_atomically
from hmgan.metrics.features import Extractor

# The translation of TensorFlow's 2015-12-05 network that StyleGAN2-ADA and its followers score with.
OFFICIAL = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
BORROWED = {"FD": "FID", "KD": "KID", "KD-subsets": "KID-subsets", "KD-subsets-std": "KID-subsets-std"}
TIMEOUT = 30  # seconds without a byte


class Scripted(nn.Module):
    """The file's network, asked for features in place of class scores. It resizes and normalises by itself."""

    def __init__(self, script: nn.Module, dim: int) -> None:
        super().__init__()
        self.script = script
        self.dim = dim

    def forward(self, images_B3HW: Tensor) -> Tensor:
        features_BF = self.script(images_B3HW, return_features=True)
        if features_BF.shape != (len(images_B3HW), self.dim):
            raise UserError(f"the extractor gave features {list(features_BF.shape)}, its entry says dim = {self.dim}")
        return features_BF


class TorchScriptExtractor(Extractor):
    """An extractor that brings its own resizer. Only the official file's scores take the names FID and KID.

    Args:
        script: a TorchScript network with the interface [B, 3, H, W] in 0..255, return_features=True -> [B, F].
        name: goes into the metrics' names, unless those are FID and KID.
    """

    def __init__(self, script: nn.Module, *, name: str, digest: str, dim: int) -> None:
        super().__init__(Scripted(script, dim), name=name, digest=digest, dim=dim, side=0)

    @property
    def resizer(self) -> str:
        return "none-before-the-network"

    def metric(self, measure: str) -> str:
        official = self.digest == OFFICIAL and measure in BORROWED
        return BORROWED[measure] if official else super().metric(measure)

    def resize(self, images_B3HW: Tensor) -> Tensor:
        return images_B3HW.float()


def load_torchscript(path: Path, *, name: str, sha256: str, dim: int) -> TorchScriptExtractor:
    """The extractor in a file, if it is the very file that `sha256` says.

    Raises: UserError where the file is missing, another one, or no TorchScript.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"extractor {name}: {path} cannot be read ({error.strerror}); give NAME:PATH of its file"
        ) from None
    digest = hashlib.sha256(raw).hexdigest()
    if digest != sha256:
        raise UserError(
            f"extractor {name}: {path} hashes to {digest[:12]}, the entry says {sha256[:12]}; it was not loaded, "
            "for a TorchScript file is code that runs; get the right file, or write an entry for this one"
        )
    try:
        with warnings.catch_warnings():
            # The file's format is given; that newer ones are advised helps nobody here.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            script = torch.jit.load(io.BytesIO(raw), map_location="cpu")
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"extractor {name}: {path} is no TorchScript file ({reason})") from None
    return TorchScriptExtractor(script, name=name, digest=digest, dim=dim)


def download(url: str, sha256: str, folder: Path) -> Path:
    """The file behind `url`, kept in `folder` under its hash. What has another hash is not kept.

    Raises: UserError where it cannot be had, or is another file.
    """
    path = folder / f"{sha256}.pt"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: _fetch(url, sha256, part))
    return path


def _fetch(url: str, sha256: str, part: Path) -> None:
    digest = hashlib.sha256()
    try:
        with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as file:
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}); fetch it elsewhere and give --extractor NAME:PATH"
        ) from None
    if digest.hexdigest() != sha256:
        raise UserError(f"{url} hashes to {digest.hexdigest()[:12]}, the entry says {sha256[:12]}; it was not kept")
