"""Versions, which must be the same on every rank."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

import torch
import torch.distributed as dist

from hmgan import __version__
from hmgan.doctor.probe import ProbeResult

PACKAGES = ("accelerate", "deepspeed", "webdataset", "safetensors", "fsspec")


def versions() -> dict[str, str]:
    """This rank's, by name."""
    found = {"hmgan": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if dist.is_nccl_available() else "none"
    gloo = "yes" if dist.is_gloo_available() else "no"
    return found | {"CUDA": str(torch.version.cuda or "none"), "NCCL": nccl, "gloo": gloo}


def software(ranks: Sequence[dict[str, str]]) -> ProbeResult:
    """Rank 0's versions, and each that differs on another rank; `ranks` are the versions of all."""
    result = ProbeResult("versions", list(ranks[0].items()))
    for name, version in result.rows:
        other = next((i for i, its in enumerate(ranks) if its[name] != version), None)
        if other is not None:
            differ = f"{name} is {version} on rank 0 and {ranks[other][name]} on rank {other}"
            result.problems.append(f"{differ}; install the same everywhere")
    return result
