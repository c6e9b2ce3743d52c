"""A function as ranks of one world, each a real process with gloo between them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import launched
import pytest

NEEDS_DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


def run(world: int, function: Callable[..., object], *arguments: object) -> None:
    """Returns once all have ended well; each must say for itself that the world is as large as was asked."""
    with tempfile.TemporaryDirectory() as said:
        ranks = launched.call(partial(function, *arguments), world, Path(said))
        try:
            codes = ranks.codes()
        finally:
            ranks.kill()
        assert codes == [0] * world, "\n".join(ranks.said())
