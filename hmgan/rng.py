"""Random streams as functions of (seed, stream, position): a resumed or re-sharded run draws the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def key(seed: int, stream: str, position: int) -> int:
    """A 63-bit seed for one position of one named stream; the same on every machine and world size."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def keys(seed: int, stream: str, start: int, count: int) -> list[int]:
    """One key per sample for `count` samples whose global positions begin at `start`."""
    return [key(seed, stream, start + offset) for offset in range(count)]


def generator(seed: int) -> torch.Generator:
    """A CPU generator: its numbers do not depend on the device that uses them."""
    return torch.Generator().manual_seed(seed)


def normal_rows(sample_keys: Sequence[int], width: int) -> Tensor:
    """[B, width] standard normals, row i a function of key i alone."""
    return torch.stack([torch.randn(width, generator=generator(k)) for k in sample_keys])


def uniform_rows(sample_keys: Sequence[int], width: int) -> Tensor:
    """[B, width] uniforms on [0, 1), row i a function of key i alone."""
    return torch.stack([torch.rand(width, generator=generator(k)) for k in sample_keys])
