"""Classes added to a trained generator. R rows, N classes, E class-vector width, O/I channels, C channels, B batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hmgan import components
from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits, StyleEdit, WeightEdit
from hmgan.modulation.base import Modulation
from hmgan.types import Count, Whole

SOURCE_START = -1


@dataclass(frozen=True)
class OnTop(WeightEdit):
    """An edit of one row, of the weight that another has made."""

    first: WeightEdit | None  # None: the source's own
    then: WeightEdit
    gain: float

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        if self.first is None:
            return self.then.weights(weight_OIkk, bias_O)
        weight_1OIkk, bias_1O = self.first.weights(weight_OIkk, bias_O)
        return self.then.weights(weight_1OIkk[0] / self.gain, bias_1O[0])


@dataclass(frozen=True)
class BlendedWeights(WeightEdit):
    """One row, the sum of others'."""

    edits: Sequence[WeightEdit]
    shares: Sequence[float]

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        made = [edit.weights(weight_OIkk, bias_O) for edit in self.edits]
        weight, bias = (
            sum(share * x for share, x in zip(self.shares, xs, strict=True)) for xs in zip(*made, strict=True)
        )
        return weight, bias


@dataclass(frozen=True)
class RowsOfWeights(WeightEdit):
    """One row of each edit."""

    edits: Sequence[WeightEdit]

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        made = [edit.weights(weight_OIkk, bias_O) for edit in self.edits]
        return torch.cat([weight for weight, _ in made]), torch.cat([bias for _, bias in made])


@dataclass(frozen=True)
class BlendedStyles:
    """One row, the sum of others'; None is the style as it is."""

    edits: Sequence[StyleEdit | None]
    shares: Sequence[float]

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        made = [(scale_BC, shift_BC) if edit is None else edit.style(scale_BC, shift_BC, counts) for edit in self.edits]
        scale, shift = (
            sum(share * x for share, x in zip(self.shares, xs, strict=True)) for xs in zip(*made, strict=True)
        )
        return scale, shift


@dataclass(frozen=True)
class RowsOfStyles:
    """One row of each edit; None is the style as it is."""

    edits: Sequence[StyleEdit | None]

    def style(self, scale_BC: Tensor, shift_BC: Tensor, counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        rows = zip(self.edits, scale_BC.split(counts), shift_BC.split(counts), counts, strict=True)
        made = [(s, t) if edit is None else edit.style(s, t, (count,)) for edit, s, t, count in rows]
        return torch.cat([scale for scale, _ in made]), torch.cat([shift for _, shift in made])


class Added(nn.Module):
    """A class's own vector, and heads whose table is of what it starts from."""

    def __init__(self, backbone: Backbone, part: dict[str, Any]) -> None:
        super().__init__()
        self.start = int(part["start"])
        net, heads = (dict(part[name]) for name in ("class_net", "modulation"))
        self.net = components.build("class-net", net.pop("name"), 1, **net)
        # Normalised at use: what it starts from is read from disk only after this is built.
        self.heads = components.build(
            "modulation", heads.pop("name"), backbone, self.net.dim, **{**heads, "live": True}
        )

    def edits(self) -> Edits:
        """One row, to act upon the weights of the start."""
        return self.heads(self.net(torch.zeros(1, dtype=torch.long, device=next(self.heads.parameters()).device)))


@register("modulation", "joined")
class Joined(Modulation):
    """The classes of a trained generator, which stay as they are, and others that were added: `hmgan classes`.

    Class vectors are one-hot. A blend of old classes goes along their own vectors; one with an added class is the
    blend of the weights that act.

    Args:
        old: how many classes the trained generator has.
        class_net: its class net, with options.
        modulation: its modulation, with options.
        added: of each added class `start`, the class whose edits its own are on top of, or -1 for the source; and its
            class_net and modulation.
        kept: the classes that are left, the added behind the old ones, in the order of the labels.

    Raises: UserError for a start or a class that is not there.
    """

    edits_weights = True

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        *,
        old: Count,
        class_net: dict[str, Any],
        modulation: dict[str, Any],
        added: list[dict[str, Any]],
        kept: list[Whole],
    ) -> None:
        super().__init__()
        net, heads = dict(class_net), dict(modulation)
        self.base_net = components.build("class-net", net.pop("name"), old, **net)
        self.base = components.build("modulation", heads.pop("name"), backbone, self.base_net.dim, **heads)
        self.added = nn.ModuleList(Added(backbone, part) for part in added)
        self.gains = {name: site.gain for name, site in backbone.sites().items()}
        self.old, self.kept = old, tuple(kept)
        starts = [int(part["start"]) for part in added]
        if len(kept) != dim or not all(0 <= label < old + len(added) for label in kept):
            raise UserError(f"kept should name {dim} of {old + len(added)} classes, got {kept}")
        if not all(SOURCE_START <= start < old + i for i, start in enumerate(starts)):
            raise UserError(f"a class starts from the source or a class before it, got {starts}")

    def forward(self, v_RE: Tensor) -> Edits:
        shares = [{self.kept[i]: share for i, share in enumerate(row) if share} for row in v_RE.tolist()]
        if all(len(row) == 1 and next(iter(row)) < self.old for row in shares):
            return self.base(
                self.base_net(torch.tensor([label for row in shares for label in row], device=v_RE.device))
            )
        rows = [self._row(row, v_RE) for row in shares]
        if len(rows) == 1:
            return rows[0]
        names = _names(row.weights for row in rows)
        weights = {name: RowsOfWeights([self._weight(row, name) for row in rows]) for name in names}
        names = _names(row.styles for row in rows)
        styles = {name: RowsOfStyles([row.styles.get(name) for row in rows]) for name in names}
        return Edits(weights=weights, styles=styles, rows=len(rows))

    def _row(self, shares: dict[int, float], like: Tensor) -> Edits:
        """One row: a class, or a blend."""
        labels = list(shares)
        if all(label < self.old for label in labels):
            v_RE = self.base_net(torch.tensor(labels, device=like.device))
            return self.base(v_RE if len(labels) == 1 else like.new_tensor([list(shares.values())]) @ v_RE)
        if len(labels) > 1:
            rows, parts = [self._row({label: 1.0}, like) for label in labels], list(shares.values())
            names = _names(row.weights for row in rows)
            weights = {name: BlendedWeights([self._weight(row, name) for row in rows], parts) for name in names}
            names = _names(row.styles for row in rows)
            styles = {name: BlendedStyles([row.styles.get(name) for row in rows], parts) for name in names}
            return Edits(weights=weights, styles=styles, rows=1)
        part: Any = self.added[labels[0] - self.old]
        start = Edits(rows=1) if part.start == SOURCE_START else self._row({part.start: 1.0}, like)
        own = part.edits()
        on_top = {name: OnTop(start.weights.get(name), edit, self.gains[name]) for name, edit in own.weights.items()}
        return Edits(weights={**start.weights, **on_top}, styles=start.styles, rows=1)

    def _weight(self, row: Edits, name: str) -> WeightEdit:
        return row.weights.get(name) or Untouched(self.gains[name])


def _names(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """What any of them names."""
    return list(dict.fromkeys(name for table in tables for name in table))


@dataclass(frozen=True)
class Untouched(WeightEdit):
    """One row, the source's weight as it acts."""

    gain: float

    def weights(self, weight_OIkk: Tensor, bias_O: Tensor) -> tuple[Tensor, Tensor]:
        return weight_OIkk[None] * self.gain, bias_O[None]
