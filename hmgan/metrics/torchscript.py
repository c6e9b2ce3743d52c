"""TorchScript networks by path and URL.

A TorchScript archive is code: loading one runs what its author wrote. So its hash is first compared with the registry
entry's, and the bytes that were hashed are the bytes that are loaded.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import pooch
import torch
from torch import nn

from hmgan.errors import UserError
from hmgan.files import MODE

TIMEOUT = 30  # seconds without a byte


def load_torchscript(path: Path, what: str, sha256: str) -> nn.Module:
    """The network in the file with this hash, on the CPU; `what` it is goes into the errors.

    Raises: UserError where the file is missing, another one, or no TorchScript.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{what}: {path} cannot be read ({error.strerror}); give NAME:PATH of its file") from None
    digest = hashlib.sha256(raw).hexdigest()
    if digest != sha256:
        raise UserError(
            f"{what}: {path} hashes to {digest[:12]}, the entry says {sha256[:12]}; it was not loaded, "
            "for a TorchScript file is code that runs; get the right file, or write an entry for this one"
        )
    try:
        with warnings.catch_warnings():
            # It advises newer formats, but the file's is given.
            warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
            return torch.jit.load(io.BytesIO(raw), map_location="cpu")
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{what}: {path} is no TorchScript file ({reason})") from None


def download(url: str, sha256: str, folder: Path) -> Path:
    """The file behind an HTTP `url`, kept in `folder` under its hash, unless it has another one.

    Raises: UserError where it cannot be had, or is another file.
    """
    path = folder / f"{sha256}.pt"
    if path.exists():
        return path
    try:
        pooch.retrieve(url, f"sha256:{sha256}", path.name, folder, downloader=pooch.HTTPDownloader(timeout=TIMEOUT))
    except OSError as error:
        raise UserError(f"{url} could not be downloaded ({error}); fetch it elsewhere and give NAME:PATH") from None
    except ValueError:
        raise UserError(f"{url} has not the hash that the entry says, {sha256[:12]}; it was not kept") from None
    path.chmod(MODE)
    return path
