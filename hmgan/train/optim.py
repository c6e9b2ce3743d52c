"""The optimisers: Adam for both networks, its groups and the correction for lazy regularisation."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam

from hmgan.config.settings import Optimizer
from hmgan.generators.build import Generator


def generator_optimizer(generator: Generator, settings: Optimizer) -> Adam:
    """Adam over the trained parts of G; the class net and a trained mapping network learn at their own rates."""
    slow = {
        "class_net.": settings.class_net_mult,
        "mapping.": settings.mapping_mult,
        "source.mapping.": settings.mapping_mult,
    }
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in generator.trained.named_parameters():
        if not parameter.requires_grad:
            continue
        mult = next((m for prefix, m in slow.items() if name.startswith(prefix)), 1.0)
        groups.setdefault(mult, []).append(parameter)
    betas = (settings.beta1, settings.beta2)
    return Adam([{"params": p, "lr": settings.lr * m} for m, p in groups.items()], betas=betas, eps=1e-8, fused=True)


def discriminator_optimizer(discriminator: nn.Module, settings: Optimizer, r1_every: int) -> Adam:
    """Adam over D. A lazy penalty takes part in one step of `every`: rate and moments by every / (every + 1).

    Karras et al. 2020, appendix B.
    """
    share = r1_every / (r1_every + 1) if r1_every > 1 else 1.0
    betas = (settings.beta1**share, settings.beta2**share)
    parameters = [p for p in discriminator.parameters() if p.requires_grad]
    return Adam(parameters, lr=settings.lr * share, betas=betas, eps=1e-8, fused=True)
