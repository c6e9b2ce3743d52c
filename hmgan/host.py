"""Between the host and the device, without waiting for either."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """What was made on the CPU, on the device: through pinned memory to a GPU, which may be busy with what came before.

    Nothing on the device is ever read back for a decision: what the host has to know, it knows from `x`.
    """
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


class Later:
    """A few numbers on their way from the device: read when it is long past them, they cost no waiting."""

    def __init__(self, x: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._x = x.detach()
        if x.is_cuda:
            self._x = torch.empty_like(x, device="cpu", pin_memory=True).copy_(self._x, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """Waits for the device, where it is not that far."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._x.tolist()
        return numbers
