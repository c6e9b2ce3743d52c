"""A phase whose loss or gradient is not finite ends the run or is skipped; the optimiser never steps on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hmgan import host
from hmgan.config.settings import Train
from hmgan.data.images import Shown
from hmgan.errors import UserError
from hmgan.train.optim import WarmingEMA
from hmgan.train.tasks.base import Stats

NAMED = 64  # images that a message names at most


class Nonfinite:
    """Counts skipped phases, on every rank alike; checkpoints hold the counts."""

    def __init__(self, settings: Train, data: Shown | None) -> None:
        self._settings, self._data = settings, data
        self._skipped, self._row, self._last = 0, 0, -2
        self._news: list[str] = []

    @property
    def skips(self) -> bool:
        """Whether such a phase is skipped."""
        return self._settings.on_nonfinite == "skip"

    def found(self, phase: str, step: int, stats: Mapping[str, float]) -> None:
        """Counts a phase that was not finite. Raises UserError if that ends the run."""
        bad = [f"{name} is {value}" for name, value in stats.items() if not math.isfinite(value)]
        where = f"step {step}, {phase} phase: {', '.join(bad) or 'the gradient is not finite'}{self._images(step)}"
        if not self.skips:
            advice = 'lower optimizer.lr, or leave such phases out with train.on_nonfinite = "skip"'
            raise UserError(f"{where}; {advice}")
        if step > self._last:
            self._row = self._row + 1 if step == self._last + 1 else 1
        self._last = step
        if self._row > self._settings.nonfinite_row:
            raise UserError(f"{where}; train.nonfinite_row allows {self._settings.nonfinite_row} such steps in a row")
        self._skipped += 1
        self._news.append(f"warning: {where}; left out")

    def news(self) -> list[str]:
        """Lines for the log, each once."""
        said, self._news = self._news, []
        return said

    def counts(self) -> dict[str, float]:
        """For the status line."""
        return {"nonfinite/skipped": self._skipped} if self.skips else {}

    def state(self) -> list[int]:
        return [self._skipped, self._row, self._last]

    def load(self, state: list[int]) -> None:
        self._skipped, self._row, self._last = state

    def _images(self, step: int) -> str:
        """Shard and key of a step's images, over all ranks."""
        batch, shards = self._settings.batch, dict[str, list[str]]()
        found = [] if self._data is None else self._data.places(step, batch, self._settings.seed)
        for shard, key in found[:NAMED]:
            shards.setdefault(shard, []).append(key)
        if not shards:
            return ""
        more = f" and {batch - NAMED} more" if batch > NAMED else ""
        return "; images " + ", ".join(f"{shard}: {' '.join(keys)}" for shard, keys in shards.items()) + more


class Outcome(NamedTuple):
    """A phase that the device may not have finished: the host learns later what became of it."""

    phase: str
    step: int
    verdict: host.Later  # what `Trained.step` returned
    stats: Stats
    average: WarmingEMA | None


class Rewind(Protocol):
    """Restores what was remembered, as often as it is called; where `only` is given, if it is true on the device."""

    def __call__(self, only: Tensor | None = None) -> None: ...


def remembered(modules: Iterable[nn.Module]) -> Rewind:
    """Copies what the modules' states hold beside parameters."""
    states = [(module, module.state_dict(), dict(module.named_parameters())) for module in modules]
    kept = [(m, {k: x.clone() for k, x in state.items() if k not in own}) for m, state, own in states]

    def restore(only: Tensor | None = None) -> None:
        for module, values in kept:
            now = {} if only is None else module.state_dict()
            module.load_state_dict(
                {k: x if only is None else torch.where(only, x, now[k]) for k, x in values.items()}, strict=False
            )

    return restore
