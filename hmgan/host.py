"""From the host to the device, without waiting for either."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """What was made on the CPU, on the device: through pinned memory to a GPU, which may be busy with what came before.

    Nothing on the device is ever read back for a decision: what the host has to know, it knows from `x`.
    """
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
