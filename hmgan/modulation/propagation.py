"""A class as a mixture of old ones (Shahbazi et al. 2021). R rows, E class-vector width, K old classes, C channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from hmgan.layers.edits import ClassStyle, Edits
from hmgan.modulation.base import Modulation

Start = Literal["source", "orthogonal", "align"]


class Propagation(nn.Module):
    """P(S(v)) + R(v): one normalisation's scales, or its shifts, from those of the old classes.

    S scores the old classes, P is their table, R is what no mixture of them has.

    Args:
        old_KC: the old classes' scales or shifts.
        share_K: how often each occurs in the source; they sum to one.
        init: "source" begins at the source's mean, sum_k share_k * old_k, for every class; the others begin with S and
            R orthogonal, as the released code does.
    """

    old_KC: Tensor

    def __init__(self, old_KC: Tensor, share_K: Tensor, dim: int, init: Start) -> None:
        super().__init__()
        # Saved: clusters come from a long computation, which machines round differently.
        self.register_buffer("old_KC", old_KC.detach().clone())
        self.score = nn.Linear(dim, len(old_KC))
        self.residual = nn.Linear(dim, old_KC.shape[1], bias=False)
        with torch.no_grad():
            if init == "source":
                self.score.weight.zero_()
                self.score.bias.copy_(share_K)
                self.residual.weight.zero_()
            else:
                nn.init.orthogonal_(self.score.weight)
                nn.init.zeros_(self.score.bias)
                nn.init.orthogonal_(self.residual.weight)

    def forward(self, v_RE: Tensor) -> Tensor:
        return self.score(v_RE) @ self.old_KC + self.residual(v_RE)


class NormPropagation(nn.Module):
    """One norm's class parts: P(S(v)) + R(v), for its scale and for its shift."""

    def __init__(self, old_scale_KC: Tensor, old_shift_KC: Tensor, share_K: Tensor, dim: int, init: Start) -> None:
        super().__init__()
        self.scale = Propagation(old_scale_KC, share_K, dim, init)
        self.shift = Propagation(old_shift_KC, share_K, dim, init)

    def forward(self, v_RE: Tensor) -> ClassStyle:
        return ClassStyle(self.scale(v_RE), self.shift(v_RE))


class Propagations(Modulation):
    """Knowledge propagation for every norm, by the name of what it edits."""

    def __init__(self, names: Iterable[str], norms: Iterable[NormPropagation], l1: float, l2: float) -> None:
        super().__init__()
        self.names, self.l1, self.l2 = list(names), l1, l2
        self.norms = nn.ModuleList(norms)

    def forward(self, v_RE: Tensor) -> Edits:
        edits = {name: norm(v_RE) for name, norm in zip(self.names, self.norms, strict=True)}
        return Edits(styles=edits, rows=len(v_RE))

    def penalties(self) -> Mapping[str, Tensor]:
        """lambda_1 * sum over layers of mean |S|, biases included, and lambda_2 * sum over layers of mean R^2."""
        parts = [m for m in self.modules() if isinstance(m, Propagation)]
        score = torch.stack([torch.cat([part.score.weight.flatten(), part.score.bias]).abs().mean() for part in parts])
        residual = torch.stack([part.residual.weight.square().mean() for part in parts])
        return {"loss/l1-scores": self.l1 * score.sum(), "loss/l2-residuals": self.l2 * residual.sum()}
