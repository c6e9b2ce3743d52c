"""Every collective is here: one flat reduction per phase, gathering, and what rank 0 shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, LoggerType, ProjectConfiguration
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from hmgan.errors import UserError, unknown
from hmgan.modulation.factors import class_vectors
from hmgan.modulation.step import current
from hmgan.train.distributed import flight
from hmgan.train.distributed.rendezvous import rendezvous
from hmgan.train.distributed.signals import Interrupted, Stop
from hmgan.train.distributed.watchdog import SILENCE, Watchdog, Whereabouts

T = TypeVar("T")

# Their names from torch 2.13 on, where those of before are deprecated.
GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
SCATTER = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class _Gather(torch.autograd.Function):
    """All ranks' rows, in rank order. Every rank's loss depends on them, so their gradients are summed."""

    @staticmethod
    def forward(x: Tensor, whereabouts: Whereabouts) -> Tensor:
        whereabouts.collectives += 1
        rows = x.new_empty(dist.get_world_size() * len(x), *x.shape[1:])
        GATHER(rows, x.contiguous())
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Whereabouts], output: Tensor) -> None:
        ctx.rows, ctx.whereabouts = len(inputs[0]), inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        own = grad.new_empty(ctx.rows, *grad.shape[1:])
        ctx.whereabouts.collectives += 1
        SCATTER(own, grad.contiguous())  # of all rows' sums, each rank needs its own alone
        return own, None


class _Total(torch.autograd.Function):
    """The sum over ranks. Every rank's loss depends on it, so that gradients are summed too."""

    @staticmethod
    def forward(x: Tensor, reduce: Callable[[Tensor], None]) -> Tensor:
        total = x.clone()
        reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Callable[[Tensor], None]], output: Tensor) -> None:
        ctx.reduce = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Total.forward(grad, ctx.reduce), None


class Runtime:
    """This process among the ranks, and what they do together."""

    def __init__(self, *, trackers: Sequence[str] = (), timeout: float = 1800.0) -> None:
        tracking = [str(each.value) for each in LoggerType]
        for name in trackers:
            if name not in tracking:
                raise unknown("tracker", name, tracking)
            if name != "all" and name not in {each.value for each in get_available_trackers()}:
                raise UserError(f"train.trackers names {name!r}, which is not installed; install it, or leave it out")
        # The run directory is made only once everything is checked; `track` moves the trackers there.
        directories = ProjectConfiguration(project_dir=".", logging_dir=".")
        cpu = not torch.cuda.is_available()
        # A collective gives up by itself only where the watchdog, which can say who it waits for, has failed to.
        patience = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout + SILENCE))
        flight.keep()
        with rendezvous(timeout):
            try:
                self.accelerator = Accelerator(
                    cpu=cpu, log_with=list(trackers) or None, project_config=directories, kwargs_handlers=[patience]
                )
            except (ValueError, KeyError) as error:  # all else that it is told is in the environment
                told = ", ".join(name for name in os.environ if name.startswith("ACCELERATE_")) or "ACCELERATE_..."
                raise UserError(
                    f"accelerate cannot start ({error}); see to the variables {told}, or unset them"
                ) from None
        self.stop, self.whereabouts, self._timeout = Stop(), Whereabouts(), timeout
        self._leaves = False  # whether several ranks are in `interrupting`

    def watched(self) -> AbstractContextManager[object]:
        """The watchdog around everything that ranks do together: what ends one of them ends all."""
        if self.world == 1:
            return nullcontext()
        loud = self.accelerator.is_local_main_process
        return Watchdog(self.whereabouts, self.rank, self.world, self.share, loud, self._timeout)

    def track(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        """Opens the trackers in a run directory, as of project hmgan, and hands them the configuration."""
        self.whereabouts.folder = folder
        self.accelerator.project_configuration.logging_dir = str(folder / "tensorboard")
        self.accelerator.init_trackers("hmgan")
        for tracker in self.accelerator.trackers:
            if tracker.name != "tensorboard":  # which would make one more run of it, every time
                tracker.store_init_configuration(dict(configuration))

    def show(self, name: str, picture: Image.Image, images: int) -> None:
        """Hands a picture to the trackers that show some; `images` shown so far is the step."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({name: np.asarray(picture)[None]}, step=images, dataformats="NHWC")

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        return self.accelerator.num_processes

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def average_gradients(self, network: nn.Module, loss: Tensor) -> Tensor:
        """The mean over ranks of every trained parameter's gradient; a missing one counts as zero.

        Of heads, whose gradients are products, factors are reduced where they are the smaller. The same reduction
        carries what ranks must agree on: their losses, and whether any was told to stop.

        Returns [2], on the device: the norm of gradients and loss, finite where all of them and what Adam squares are,
        and whether any rank was told to stop. Nothing is read back.
        """
        parameters = [p for p in network.parameters() if p.requires_grad]
        factors = current().factors
        heads = factors.taken(parameters)
        stop = torch.full_like(loss, float(self.stop.requested))
        if self.world == 1:
            for parameter, head in heads.items():
                parameter.grad = head.gradient(head.t(), class_vectors(factors.vectors()))
            norm = get_total_norm([loss, *(p.grad for p in parameters if p.grad is not None)])
            return torch.stack([norm, stop.to(norm)])
        sent = [heads[p].t() if p in heads else torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        sent += [factors.vectors()] if heads else []
        flat = torch.cat([*(x.flatten() for x in sent), torch.stack([loss, stop]).to(sent[0])])
        self._all_reduce(flat)
        flat /= self.world
        means = [x.view_as(like) for x, like in zip(flat[:-2].split([x.numel() for x in sent]), sent, strict=True)]
        v_NE = class_vectors(means.pop()) if heads else loss  # unused without heads
        products = []
        for parameter, mean in zip(parameters, means, strict=True):
            parameter.grad = heads[parameter].gradient(mean, v_NE) if parameter in heads else mean
            if parameter in heads:
                products.append(parameter.grad)
        norm = get_total_norm([flat, *products])  # a product of finite numbers may be infinite
        return torch.stack([norm, flat[-1]])

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Around work that a resumed run does again: a signal raises Interrupted, on all ranks or on none.

        Several ranks leave it where they meet, in `gather_or_stop`; the first one also in what it does `alone`, after
        which the others wait for it here.
        """
        if self.world == 1:
            with self.stop.interrupting():
                yield
            return
        self._leaves, interrupted = True, False
        try:
            yield
        except Interrupted:
            interrupted = True
        finally:
            self._leaves = False
        if self.share(interrupted):
            raise Interrupted

    def alone(self) -> AbstractContextManager[None]:
        """Around what the first rank does last in `interrupting`, without the others: a signal ends it at once."""
        return self.stop.interrupting() if self._leaves else nullcontext()

    def gather_or_stop(self, x: Tensor) -> Tensor:
        """As `gather`, without gradients. Raises Interrupted on all ranks where any was told to stop in `interrupting`.

        The flags ride on the rows, so that all ranks read the same.
        """
        if self.world == 1 or not self._leaves:
            return self.gather(x)
        told = x.new_full((1, *x.shape[1:]), float(self.stop.requested))
        shares = self.gather(torch.cat([x, told])).unflatten(0, (self.world, -1))
        if bool(shares[:, -1].any()):
            raise Interrupted
        return shares[:, :-1].flatten(0, 1)

    def _all_reduce(self, x: Tensor) -> None:
        self.whereabouts.collectives += 1
        dist.all_reduce(x)

    def agree(self, value: Tensor) -> float:
        """The sum over ranks of a scalar, and with it whether any of them was told to stop."""
        both = torch.stack([value, torch.full_like(value, float(self.stop.requested))])
        if self.world > 1:
            self._all_reduce(both)
        total, stops = both.tolist()
        self.stop.agreed |= stops > 0
        return total

    def gather(self, x: Tensor) -> Tensor:
        """[B, ...] of every rank along the first axis, in rank order, with exact gradients under averaging."""
        return x if self.world == 1 else _Gather.apply(x, self.whereabouts)

    def total(self, x: Tensor) -> Tensor:
        """The sum over ranks, with exact gradients under averaging."""
        return x if self.world == 1 else _Total.apply(x, self._all_reduce)

    def mean(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """The mean over ranks of each scalar, in torch's default dtype."""
        values = torch.stack([value.detach().to(torch.get_default_dtype()) for value in stats.values()])
        if self.world > 1:
            self._all_reduce(values)
            values /= self.world
        return dict(zip(stats, values.tolist(), strict=True))

    def share(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        shared = [value]
        if self.world > 1:
            self.whereabouts.collectives += 1
            dist.broadcast_object_list(shared)
        return shared[0]

    def wait(self) -> None:
        """Until every rank is here."""
        self.whereabouts.collectives += 1
        self.accelerator.wait_for_everyone()
