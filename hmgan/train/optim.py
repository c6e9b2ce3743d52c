"""The optimisers: Adam for both networks, its groups and the correction for lazy regularisation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Set
from itertools import chain

from ema_pytorch import EMA
from torch import Tensor, nn
from torch.optim import Adam

from hmgan.config.settings import Optimizer
from hmgan.discriminators.base import Discriminator
from hmgan.errors import UserError, nearest
from hmgan.generators.base import Generator
from hmgan.layers.mapping import tracked_buffers


def generator_optimizer(generator: Generator, settings: Optimizer, path_every: int = 0) -> Adam:
    """Adam over the trained parts of G; the class net and a trained mapping network learn at their own rates.

    Corrected as D's for a path-length penalty in one step of `path_every`.
    """
    share = lazy_share(path_every)
    mapping = settings.mapping_mult
    slow = {"class_net.": settings.class_net_mult, "mapping.": mapping, "source.mapping.": mapping}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in generator.trained.named_parameters():
        if parameter.requires_grad:
            mult = next((m for prefix, m in slow.items() if name.startswith(prefix)), 1.0)
            groups.setdefault(mult, []).append(parameter)
    betas = (settings.beta1**share, settings.beta2**share)
    return Adam(
        [{"params": p, "lr": settings.lr * m * share} for m, p in groups.items()], betas=betas, eps=1e-8, fused=True
    )


def discriminator_optimizer(discriminator: nn.Module, settings: Optimizer, r1_every: int) -> Adam:
    """Adam over D, corrected for a penalty in one step of `r1_every` alone (Karras et al. 2020, appendix B)."""
    share = lazy_share(r1_every)
    betas = (settings.beta1**share, settings.beta2**share)
    parameters = [p for p in discriminator.parameters() if p.requires_grad]
    return Adam(parameters, lr=settings.lr * settings.disc_mult * share, betas=betas, eps=1e-8, fused=True)


def lazy_share(every: int) -> float:
    """Of the learning rate, and exponent of both betas, under a penalty in one step of `every`; 1 where none is."""
    return every / (every + 1) if every > 1 else 1.0


class WarmingEMA(EMA):  # type: ignore[misc]
    """A moving average whose half-life is at most a share of the steps so far."""

    warmup = 0.0
    _held: list[tuple[str, Tensor]] | None = None

    def hold(self) -> None:
        """The next update is of the buffers as they are now, whatever passes come before it."""
        buffers = super().get_buffers_iter(self.model)
        self._held = [(name, buffer if name in self.ignore_names else buffer.clone()) for name, buffer in buffers]

    def update(self) -> None:
        super().update()
        self._held = None

    def get_buffers_iter(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        held = self._held if model is self.model else None
        return super().get_buffers_iter(model) if held is None else iter(held)

    def get_current_decay(self) -> float:
        decay: float = super().get_current_decay()
        return min(decay, 0.5 ** (1 / (self.warmup * max(1, int(self.step))))) if self.warmup else decay


def moving_average(
    trained: nn.Module,
    batch: int,
    kimg: float,
    power: float,
    warmup: float = 0.0,
    given: Set[str] = frozenset(),
) -> WarmingEMA:
    """A moving average of half-life `kimg`, shorter at first: its factor is at most 1 - (1 + step)^-power.

    The half-life is at most the share `warmup` of the images so far, where that is not 0 (Karras et al. 2020b).

    What is `given`, and buffers that no checkpoint holds, which are computed from the frozen source, never change:
    shared, not averaged. Buffers that are averages already, such as the mean w, are copied.
    """
    held = trained.state_dict().keys() - given
    every = chain(trained.named_parameters(), trained.named_buffers())
    constants = {name: tensor for name, tensor in every if name not in held}
    average = WarmingEMA(
        trained,
        ema_model=copy.deepcopy(trained, {id(tensor): tensor for tensor in constants.values()}),
        beta=0.5 ** (batch / (1000 * kimg)),
        power=power,
        inv_gamma=1.0,
        update_after_step=0,
        update_every=1,
        include_online_model=False,
        ignore_names=set(constants),
        use_foreach=True,
        param_or_buffer_names_no_ema=tracked_buffers(trained),
    )
    average.warmup = warmup
    return average


def freeze(network: Discriminator, names: list[str]) -> None:
    """Switches the gradients of whole parts off. Raises UserError for a part that is not there."""
    parts = network.parts()
    for name in names:
        if name not in parts:
            inside = name.rpartition(".")[0] if name.rpartition(".")[0] in parts else ""
            known = [part for part in parts if part and part.rpartition(".")[0] == inside]
            raise UserError(f"task.freeze names {name!r}{nearest(name, known)} D has: {', '.join(known)}")
        parts[name].requires_grad_(False)
