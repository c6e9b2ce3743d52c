"""What of a network stands still while the rest trains."""

from __future__ import annotations

from torch import nn

from hmgan import components
from hmgan.errors import UserError


def miner_alone(backbone: nn.Module, alone: bool) -> None:
    """MineGAN's first stage holds all of G but its miner; the second trains everything."""
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name.startswith("miner.") or not alone)


def freeze(network: nn.Module, names: list[str]) -> None:
    """Switches the gradients of whole parts off. Raises UserError for a part that is not there."""
    parts = dict(network.named_modules())
    for name in names:
        if name not in parts:
            inside = name.rpartition(".")[0] if name.rpartition(".")[0] in parts else ""
            known = [part for part in parts if part and part.rpartition(".")[0] == inside]
            raise UserError(f"train.freeze names {name!r}{components.nearest(name, known)} D has: {', '.join(known)}")
        parts[name].requires_grad_(False)
