"""How a run computes: its precision, its kernels and its memory layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import nn

from hmgan.config.settings import Compute
from hmgan.errors import UserError
from hmgan.kernels.available import lacking
from hmgan.layers.passes import BY_LAYERS, Passing

# Around a network's pass: autocast, or nothing. What it returns for losses is float32 either way.
Mixed = Callable[[], AbstractContextManager[object]]
LAUNCHER = "ACCELERATE_MIXED_PRECISION"  # where `accelerate launch --mixed_precision` says it
PRECISIONS = {"no": "float32", "bf16": "bf16"}


def mixed(settings: Compute, device: torch.device) -> Mixed:
    """A run's passes: float32, or bfloat16 under autocast. Weights, moving averages and Adam are float32 always.

    Raises: UserError for a GPU without bfloat16.
    """
    if settings.precision == "float32":
        return nullcontext
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"compute.precision bf16 needs a GPU of compute capability 8.0 or higher, "
            f"got {torch.cuda.get_device_name(device)}; use float32"
        )
    return partial(torch.autocast, device.type, torch.bfloat16)


def check_graphs(settings: Compute, device: torch.device) -> None:
    """Raises UserError where CUDA graphs are asked for without CUDA."""
    if settings.graphs and device.type != "cuda":
        raise UserError(f"compute.graphs needs a CUDA device, got {device.type}; leave it out")


def join_passes(settings: Compute, device: torch.device, *networks: nn.Module) -> tuple[bool, str]:
    """Lets kernels join the networks' passes where they can run. Returns whether they do, and a line about it.

    The line is empty where they were not asked for, or no network has such passes.
    """
    parts = [m for network in networks for m in network.modules() if isinstance(m, Passing)]
    passes, note = BY_LAYERS, ""
    if parts and settings.kernels == "auto":
        lacks = lacking(device)
        note = f"torch's kernels, {lacks}" if lacks else "Triton's kernels"
        if not lacks:
            from hmgan.kernels.passes import BY_KERNELS  # Triton comes with PyTorch for CUDA alone

            passes = BY_KERNELS
    for part in parts:
        part.passes = passes
    return passes is not BY_LAYERS, note


def layout_of(
    device: torch.device, precision: str, by_kernels: bool, on_cpu: torch.memory_format
) -> torch.memory_format:
    """Of D's images, which its maps keep: channels last for kernels and for a GPU's bf16, and `on_cpu` on a CPU."""
    if by_kernels or (device.type == "cuda" and precision == "bf16"):
        return torch.channels_last
    return on_cpu if device.type == "cpu" else torch.contiguous_format


def launched() -> str | None:
    """The precision that accelerate's launcher was asked for; None where it was asked for none.

    Raises: UserError for one that does not fit: float16 needs its losses scaled, and R1 would have to undo that twice.
    """
    asked = os.environ.get(LAUNCHER, "no")
    if asked not in PRECISIONS:
        choices = " or ".join(PRECISIONS)
        raise UserError(f"mixed precision can be {choices}, got {asked} from accelerate launch; use bf16")
    return None if asked == "no" else PRECISIONS[asked]
