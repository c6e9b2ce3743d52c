"""From class vectors to tables of scales, shifts or biases. R rows, E class-vector width, O a table's entries, flat."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from hmgan.layers.equalized import he_gain
from hmgan.modulation.factors import Sink
from hmgan.modulation.step import current

BLOCKS = 64


class _AffineBlocks(torch.autograd.Function):
    """v [R, E], N blocks of a weight [N, O/N, E] and of a bias [N, O/N] -> [N, R, O/N]: v @ weight.T + unit * bias.

    One product, which adds the bias as it writes. Autograd would copy the weight's gradient: a fifth of the backward.
    A sink takes the table's gradient, of which the weight's is made later.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(v_RE: Tensor, weight_NOE: Tensor, bias_NO: Tensor, unit: float, sink: Sink | None) -> Tensor:
        v_NRE = v_RE.expand(len(weight_NOE), -1, -1)
        return torch.baddbmm(bias_NO[:, None], v_NRE, weight_NOE.mT, beta=unit)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, Sink | None], output: Tensor) -> None:
        v_RE, weight_NOE, _, ctx.unit, ctx.sink = inputs
        ctx.save_for_backward(v_RE, weight_NOE)

    @staticmethod
    def backward(ctx: Any, grad_NRO: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        v_RE, weight_NOE = ctx.saved_tensors
        grad_NRO = grad_NRO.contiguous()  # rows a power of two apart would share their cache lines
        needs_v, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        if needs_weight and ctx.sink is not None:
            ctx.sink(grad_NRO.detach())
            needs_weight = False
        return (
            (grad_NRO @ weight_NOE).sum(0) if needs_v else None,
            grad_NRO.mT @ v_RE.expand(len(weight_NOE), -1, -1) if needs_weight else None,
            ctx.unit * grad_NRO.sum(1) if needs_bias else None,
            None,
            None,
        )


class LowRankHead(nn.Module):
    """v [R, E] -> tables [R, O * I], unit * (base + L_v R_v^T / sqrt(rank)): one base and, per row, outer products.

    With `spread` 0 the table starts at its base, as L does at zero; R starts at random, so that L has a gradient.

    Args:
        rank: columns of the factors.
        trains: whether the base is a parameter.
        dim, shape, unit: width of v, (O, I), and what one unit of the table stands for.
        bias: the base in effective units, or None for zero.
        spread: standard deviation of L's initial weight.
    """

    base_OI: Tensor

    def __init__(
        self, rank: int, trains: bool, dim: int, shape: tuple[int, int], unit: float, bias: Tensor | None, spread: float
    ) -> None:
        super().__init__()
        self.unit, self.rank = unit, rank
        self.left = AffineHead(dim, shape[0] * rank, spread=spread)
        self.right = AffineHead(dim, shape[1] * rank, spread=1.0)
        base_OI = torch.zeros(shape) if bias is None else bias.detach().view(shape) / unit
        if trains:
            self.base_OI = nn.Parameter(base_OI)
        else:
            self.register_buffer("base_OI", base_OI)

    def forward(self, v_RE: Tensor) -> Tensor:
        left_ROk, right_RIk = (head(v_RE).unflatten(1, (-1, self.rank)) for head in (self.left, self.right))
        scale = self.unit / math.sqrt(self.rank)
        return torch.add(self.base_OI * self.unit, left_ROk @ right_RIk.mT, alpha=scale).flatten(1)


class AffineHead(nn.Module):
    """v [R, E] -> table [R, O], equalised: unit * (s(E) * v @ weight.T + bias), s(E) = sqrt(2 / E) (Eq. 3).

    The gain multiplies v, which is tiny, and never the weight, which holds most of the model's parameters.

    Args:
        unit: the scale of one unit of output; the site's own gain where the table stands for a weight.
        bias: what the head emits for v = 0, in effective units; zero where left out.
        spread: standard deviation of the initial weight.
    """

    def __init__(self, dim: int, outputs: int, *, unit: float = 1.0, bias: Tensor | None = None, spread: float) -> None:
        super().__init__()
        self.gain, self.unit = he_gain(dim) * unit, unit
        self.weight = nn.Parameter(torch.randn(outputs, dim) * spread if spread else torch.zeros(outputs, dim))
        self.bias = nn.Parameter(torch.zeros(outputs) if bias is None else bias.detach().flatten() / unit)

    def forward(self, v_RE: Tensor) -> Tensor:
        # In blocks of outputs, few rows cost little more than reading the weight once; one tall product takes three
        # times as long on CPU.
        blocks = math.gcd(len(self.weight), BLOCKS), -1
        weight_NOE, bias_NO = self.weight.unflatten(0, blocks), self.bias.unflatten(0, blocks)
        sink = current().factors.sink_of(self.weight, len(weight_NOE), self.gain, v_RE)
        table_NRO = _AffineBlocks.apply(v_RE * self.gain, weight_NOE, bias_NO, self.unit, sink)
        return table_NRO.transpose(0, 1).flatten(1)
