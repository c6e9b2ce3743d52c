"""CUDA graphs: all that a pass launches, at one launch; and all that its backward launches, at another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from hmgan import ahead
from hmgan.train.precision import Mixed

Run = Callable[..., Tensor]


def captured(run: Run, samples: tuple[Tensor, ...], mixed: Mixed, pool: Any = None) -> Run:
    """The graph of what a function launches for tensors like the samples, whatever is in them.

    It has one memory, written at each use: the backward of one use must come before the next one. Results and gradients
    are copied out of it, so that they outlive that, as an accumulated gradient must. There is no second derivative.

    Args:
        run: reads nothing back, and takes nothing from the host but the tensors that it is given.
        samples: where a tensor lies at every use, and nobody else writes in between, such as a parameter: it itself.
            All others are copied to where their sample lies.
        mixed: around the function.
        pool: memory that graphs share of which no two are in use at once.
    """
    with ahead.alone, torch.enable_grad(), mixed(), _casts_anew():
        made = torch.cuda.make_graphed_callables(run, samples, allow_unused_input=True, pool=pool)
    replay = cast(Run, made)
    return lambda *inputs: replay(*_OwnGradients.apply(*inputs)).clone()


@contextmanager
def _casts_anew() -> Iterator[None]:
    """Autocast keeps casts of parameters for the next pass, which a graph must not."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


class _OwnGradients(torch.autograd.Function):
    """The same tensors, in the same memory; their gradients are copied."""

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if grad is None else grad.clone() for grad in grads)
