"""Versions, and the same ones on every rank."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

import torch
import torch.distributed as dist

from hmgan import __version__
from hmgan.doctor.section import Section

PACKAGES = ("accelerate", "deepspeed", "webdataset", "safetensors", "fsspec")


def versions() -> dict[str, str]:
    """Of this rank."""
    found = {"hmgan": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if dist.is_nccl_available() else "none"
    return found | {"CUDA": str(torch.version.cuda or "none"), "NCCL": nccl, "gloo": yes(dist.is_gloo_available())}


def yes(there: bool) -> str:
    return "yes" if there else "no"


def software(of_ranks: Sequence[dict[str, str]]) -> Section:
    """`of_ranks`: the versions of every rank."""
    first, section = of_ranks[0], Section.empty("versions")
    section.rows.extend(first.items())
    for name, version in first.items():
        for rank, other in enumerate(of_ranks):
            if other[name] != version:
                section.problems.append(
                    f"{name} is {version} on rank 0 and {other[name]} on rank {rank}; install the same everywhere"
                )
                break
    return section
