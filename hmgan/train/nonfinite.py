"""What becomes of a phase whose loss or gradient is not finite: it ends the run, or is left out. Never a step on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from hmgan.config.settings import Train
from hmgan.data.images import Shown
from hmgan.errors import UserError

NAMED = 64  # images of a batch that are named at most
State = list[int]


class Nonfinite:
    """Counts what was left out, on every rank alike; the counts are kept in checkpoints."""

    def __init__(self, settings: Train, data: Shown | None) -> None:
        self._settings, self._data = settings, data
        self._skipped, self._row, self._last = 0, 0, -2
        self._news: list[str] = []

    def undo(self, modules: Iterable[nn.Module]) -> Callable[[], None]:
        """Call before a phase; the result puts back what its forward passes change: averages and probabilities."""
        return remembered(modules if self._settings.on_nonfinite == "skip" else ())

    def met(self, phase: str, step: int, stats: Mapping[str, float]) -> None:
        """A phase was not finite.

        Raises: UserError if that ends the run.
        """
        bad = [f"{name} is {value}" for name, value in stats.items() if not math.isfinite(value)]
        where = f"step {step}, {phase} phase: {', '.join(bad) or 'the gradient is not finite'}{self._images(step)}"
        if self._settings.on_nonfinite == "stop":
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
        """Lines to say, once."""
        said, self._news = self._news, []
        return said

    def counts(self) -> dict[str, float]:
        """For the status line."""
        return {"nonfinite/skipped": self._skipped} if self._settings.on_nonfinite == "skip" else {}

    def state(self) -> State:
        return [self._skipped, self._row, self._last]

    def load(self, state: State) -> None:
        self._skipped, self._row, self._last = state

    def _images(self, step: int) -> str:
        """Shard and key of the images of a step, of all ranks."""
        if self._data is None:
            return ""
        batch, shards = self._settings.batch, dict[str, list[str]]()
        for shard, key in self._data.places(step, batch, self._settings.seed)[:NAMED]:
            shards.setdefault(shard, []).append(key)
        if not shards:
            return ""
        more = f" and {batch - NAMED} more" if batch > NAMED else ""
        return "; images " + ", ".join(f"{shard}: {' '.join(keys)}" for shard, keys in shards.items()) + more


def remembered(modules: Iterable[nn.Module]) -> Callable[[], None]:
    """The result puts back what the modules keep beside their parameters."""
    kept = [(module, buffers(module)) for module in modules]

    def put_back() -> None:
        for module, values in kept:
            module.load_state_dict(values, strict=False)

    return put_back


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of what the module keeps beside its parameters."""
    kept, parameters = module.state_dict(), dict(module.named_parameters())
    return {name: value.clone() for name, value in kept.items() if name not in parameters}
