"""What trains is not what judges: no discriminator may see through the network of a score."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.metrics.networks import load_extractor

SMALLEST = 256  # numbers of a tensor that two networks have by no chance


def check_apart(discriminator: Any) -> None:
    """Raises UserError for a D whose features are those of a registered extractor, by its file or by its weights."""
    features = getattr(discriminator, "features", None)
    if features is None:
        return
    for name in entries.entries("extractor"):
        entry = entries.entry("extractor", name)
        # Of another file the hash tells: it need not be at hand.
        if entry.get("sha256") == features.digest or ("asset" in entry and _share(features.network, name)):
            raise UserError(
                f"discriminator sees through extractor {name!r}, which scores judge by; take other features"
            )


def _share(network: nn.Module, name: str) -> bool:
    """Whether any large tensor of the network is one of the extractor's."""
    known = [x for x in load_extractor(name).trunk.state_dict().values() if x.numel() >= SMALLEST]
    own = list(network.state_dict().values())
    return any(a.shape == b.shape and torch.equal(a.cpu().to(b), b) for a in own for b in known)
