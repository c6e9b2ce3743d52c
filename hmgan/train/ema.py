"""The moving average of G's trained parts; the frozen source needs no copy."""

from __future__ import annotations

from ema_pytorch import EMA
from torch import nn


def half_life_kimg(batch: int) -> float:
    """batch * 10 / 32 kimg (Karras et al. 2020b)."""
    return batch * 10 / 32


def decay(batch: int, kimg: float) -> float:
    """Per-step factor that halves in `kimg` thousand images."""
    return 0.5 ** (batch / (1000 * kimg))


def moving_average(trained: nn.Module, batch: int, kimg: float, power: float) -> EMA:
    """An average that begins at step 0 and is short at first: its factor is at most 1 - (1 + step)^-power.

    What no checkpoint holds is computed from the frozen source and never changes: shared, not averaged.
    """
    kept = trained.state_dict().keys()
    constants = {name: buffer for name, buffer in trained.named_buffers() if name not in kept}
    average = EMA(
        trained,
        beta=decay(batch, kimg),
        power=power,
        inv_gamma=1.0,
        update_after_step=0,
        update_every=1,
        include_online_model=False,
        ignore_names=set(constants),
    )
    for name, buffer in average.ema_model.named_buffers():
        if name in constants:
            buffer.data = constants[name].data
    return average
