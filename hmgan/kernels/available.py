"""Whether this machine can run Triton's kernels, without importing Triton."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch

CAPABILITY = (8, 0)  # from which GPUs have bfloat16


def lacking(device: torch.device) -> str:
    """What keeps the kernels from running; empty where nothing does."""
    if device.type != "cuda":
        return "no CUDA device"
    if torch.cuda.get_device_capability(device) < CAPABILITY:
        return "a GPU of compute capability 8.0 or higher is needed"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    # Triton builds a launcher for every kernel, when it first runs.
    if not (os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")):
        return "Triton needs a C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Triton needs Python's headers"
    return ""
