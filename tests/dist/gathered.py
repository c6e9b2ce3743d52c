"""One rank of a world: its rows among all, and their gradients, against the same sums made alone."""

from __future__ import annotations

import torch

from hmgan.train.distributed.runtime import Runtime


def main(world: int) -> None:
    runtime = Runtime()
    assert runtime.world == world
    every = torch.randn(world, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.randn(world, 3 * world, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    own = every[runtime.rank].clone().requires_grad_()
    rows = runtime.gather(own)
    assert torch.equal(rows, every.flatten(0, 1))
    (grad,) = torch.autograd.grad((rows.pow(3) * weight[runtime.rank]).sum(), own)

    whole = every.flatten(0, 1).clone().requires_grad_()
    (wanted,) = torch.autograd.grad((whole.pow(3) * weight.sum(0)).sum(), whole)
    torch.testing.assert_close(grad, wanted.unflatten(0, (world, 3))[runtime.rank], rtol=1e-14, atol=1e-14)
    assert runtime.whereabouts.collectives == 2
    runtime.accelerator.end_training()
