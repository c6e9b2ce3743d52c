"""One rank of a world: Barlow Twins by sums over the ranks, against gathered rows; in a whole step of D too."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import tiny
import torch
from equivalence import float64

from hmgan.config.experiment import Experiment
from hmgan.losses.barlow_twins import redundancy, redundancy_by_sums
from hmgan.train.distributed import runtime as distributed
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.prepare import prepare
from hmgan.train.tasks import gan
from hmgan.train.trainer import Trainer


def assert_the_loss_and_its_gradients_are_the_same() -> None:
    """On features far from zero and of unlike sizes; averaged over ranks, a gradient is `world` times its share."""
    runtime = Runtime()
    every = torch.randn(2, runtime.world, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    every = every * torch.arange(1, 6) + 30
    own = every[:, runtime.rank].clone().requires_grad_()
    whole = every.clone().requires_grad_()
    loss = redundancy_by_sums(*own, 0.3, runtime.total)
    wanted = redundancy(*whole.flatten(1, 2), 0.3)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0.0)
    (grad,), (grads,) = torch.autograd.grad(loss, own), torch.autograd.grad(wanted, whole)
    torch.testing.assert_close(grad, runtime.world * grads[:, runtime.rank], rtol=1e-10, atol=1e-12)


def step_of(experiment: Experiment, folder: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The gradients of a step, averaged over the ranks, its contrastive loss, and how many numbers were gathered."""
    prepared, gathered, gradients = prepare(experiment), [], []
    for network in prepared.networks:
        network.to(torch.get_default_dtype())
    runtime, gather = prepared.runtime, distributed.GATHER
    average = runtime.average_gradients

    def counted(rows, x):
        gathered.append(rows.numel())
        gather(rows, x)

    def kept(network, loss):
        verdict = average(network, loss)
        gradients.extend(p.grad.flatten() for p in network.parameters() if p.grad is not None)
        return verdict

    runtime.average_gradients = kept
    trainer = Trainer(prepared.task, runtime, folder, tiny.no_snapshot)
    with patch.object(distributed, "GATHER", counted):
        stats = trainer.take_step(next(trainer.batches()))
    return torch.cat(gradients), stats["loss/contrastive"].detach(), sum(gathered)


def main(shards: Path, source: Path, out: Path) -> None:
    assert_the_loss_and_its_gradients_are_the_same()
    batch = 8 * Runtime().world
    chosen = (f"train.batch={batch}", "contrastive=barlow-twins", "contrastive.weight=1.0")
    experiment = tiny.transfer(shards, source, *chosen)
    with float64():
        gradients, loss, many = step_of(experiment, out)
        with patch.object(gan, "MANY_RANKS", 1):
            by_sums, same, few = step_of(experiment, out)
            in_parts = prepare(tiny.transfer(shards, source, *chosen, "train.accumulate=2"))
    torch.testing.assert_close(same, loss, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(by_sums, gradients, rtol=1e-9, atol=1e-11 * float(gradients.abs().max()))
    logits, width = 3 * batch, tiny.DISCRIMINATOR["channels"][0]
    assert (many, few) == (logits + 4 * batch * width, logits)
    assert in_parts.task.penalties.total is None  # microbatches take their rows from a cache
    torch.distributed.destroy_process_group()
