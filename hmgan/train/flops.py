"""How many floating-point operations a step takes, counted once from what runs, and what devices are capable of.

Only products are counted, of matrices and in convolutions, forwards and backwards: all else is a few in a hundred.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hmgan.config.experiment import Experiment

aten = torch.ops.aten
TRANSPOSED = 4  # among the arguments behind the weight, of a convolution and of its derivative
# Of dense bfloat16 products, in TFLOP/s, by what the device's name holds; the first that fits.
PEAKS = {
    **{"A100": 312.0, "H100 NVL": 835.0, "H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "B200": 2250.0},
    **{"L40S": 362.0, "MI300X": 1307.0},
}


def _product(out: Tensor, a: Tensor, b: Tensor) -> int:
    return 2 * out.numel() * a.shape[-1]


def _added(out: Tensor, c: Tensor, a: Tensor, b: Tensor, **scales: float) -> int:
    return _product(out, a, b)


def _convolution(out: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> int:
    """Each number of the map at the lower resolution meets one of the filters, [I / groups, ...], whole."""
    transposed = settings[TRANSPOSED]
    return 2 * (x if transposed else out).numel() * weight[0].numel()


def _convolution_backward(out: Any, grad: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> int:
    """Of x, of the filters, or of both, as the mask at the end says."""
    return sum(settings[-1][:2]) * _convolution(grad, x, weight, *settings)


COUNTS: dict[Any, Callable[..., int]] = {
    aten.mm: _product,
    aten.bmm: _product,
    aten.addmm: _added,
    aten.baddbmm: _added,
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
}


class Counting(TorchDispatchMode):
    """Counts what runs within, and changes nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := COUNTS.get(func.overloadpacket)) is not None:
            self.flops += count(out, *args, **(kwargs or {}))
        return out


class Work:
    """The operations of this rank's steps: the mean of the first ones, as many as penalties need to come round.

    Args:
        steps: to count; 0 counts none.
        kimg: of all ranks, in a step.
        peak: TFLOP/s that the device is capable of, where that is known.
    """

    def __init__(self, steps: int, kimg: float, peak: float | None) -> None:
        self._steps, self._left, self._kimg, self._peak = steps, steps, kimg, peak
        self._counting = Counting()

    def counted(self) -> AbstractContextManager[object]:
        """Around each step."""
        if self._left == 0:
            return nullcontext()
        self._left -= 1
        return self._counting

    def speed(self, sec_per_kimg: float) -> dict[str, float]:
        """TFLOP/s, and their share of the peak where there is one; empty until the steps are counted."""
        if self._left or not self._steps:
            return {}
        tflops = self._counting.flops / self._steps / (sec_per_kimg * self._kimg) / 1e12
        return {"tflops": tflops} | ({"peak_share": tflops / self._peak} if self._peak else {})


def work_of(experiment: Experiment, steps: int, device: torch.device) -> Work:
    """Of a run whose penalties come round in so many steps."""
    return Work(steps, experiment.train.batch / 1000, peak(device, experiment.compute.precision))


def peak(device: torch.device, precision: str) -> float | None:
    """TFLOP/s that the device is said to reach in bfloat16; None where that is not known, or not what a run is in."""
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((most for part, most in PEAKS.items() if part in name), None)
