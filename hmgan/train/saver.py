"""Checkpoints written in the background, one at a time, from a copy: training goes on meanwhile and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hmgan.train import checkpoint
from hmgan.train.checkpoint import Copy, Parts


class Saver:
    """Context manager around the training loop; what is being written is whole or given up when it ends.

    Memory: from `save` until the file is written, a copy on the CPU of all that a checkpoint holds.

    Args:
        folder: holds the checkpoints, each named by its step.
        keep: how many stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, step: int, parts: Parts, state: Mapping[str, Any]) -> None:
        """Copies the parts, and begins to write. Raises what the write before this one has failed with."""
        self.wait()
        copy = checkpoint.copy_of(parts)
        self._thread = threading.Thread(target=self._write, args=(self._folder / f"{step:09d}", copy, state))
        self._thread.start()

    def check(self) -> None:
        """Raises what a write has failed with: UserError for want of room."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Until nothing is being written. Raises what it has failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception:
            if error is None:  # otherwise that one came first, and is told
                raise

    def _write(self, folder: Path, copy: Copy, state: Mapping[str, Any]) -> None:
        try:
            checkpoint.write(folder, copy, state)
            checkpoint.prune(self._folder, self._keep)
        except Exception as error:  # whatever it is, the training must hear of it
            self._error = error
