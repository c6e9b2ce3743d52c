"""gamma, beta and b taken apart are Eqs. 4 and 5 with the source's values for the others."""

from __future__ import annotations

import pytest
import torch

from hmgan.layers.edits import AdaFM, Edits, LiveAdaFM, kernel_statistics
from hmgan.layers.sites import SiteConv2d, SiteLinear
from hmgan.modulation.parts_alone import partly

ROWS, EPSILON = 2, 1e-5


def site(kind):
    torch.manual_seed(0)
    layer = SiteConv2d("it", 4, 3) if kind == "conv" else SiteLinear("it", 4, 3)
    layer.bias.data.normal_()
    return layer


def edited(layer, live):
    """The tables of two classes, and the edit that they make."""
    at = layer.site()
    mean, std = kernel_statistics(at.weight.detach(), at.axes)
    tables = [torch.randn(ROWS, *mean.shape[:2]) for _ in range(2)] + [torch.randn(ROWS, 3)]
    normal = (at.weight.detach() - mean) / (std + EPSILON * at.gain)
    return tables, LiveAdaFM(EPSILON, *tables, at.axes) if live else AdaFM(normal, *tables)


def naive(layer, tables, gamma, beta, b):
    """Kernel by kernel, or row by row."""
    at = layer.site()
    weight, bias = at.weight.detach(), at.bias.detach()
    made = torch.empty(ROWS, *weight.shape)
    axes = (2, 3) if weight.dim() == 4 else (1,)
    for row in range(ROWS):
        for o in range(len(weight)):
            for i in range(weight.shape[1]) if axes == (2, 3) else [slice(None)]:
                kernel, table_at = weight[o, i], (row, o, i if axes == (2, 3) else 0)
                mu, sigma = kernel.mean(), kernel.std() + EPSILON * at.gain
                g = tables[0][table_at] if gamma else sigma
                made[row, o, i] = g * (kernel - mu) / sigma + (tables[1][table_at] if beta else mu)
    return made, bias + tables[2] if b else bias.expand(ROWS, -1)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("parts", [(), ("gamma",), ("beta",), ("b",), ("gamma", "b"), ("gamma", "beta", "b")])
def test_a_part_is_the_classs_and_the_others_are_the_sources(parts, kind, live):
    layer = site(kind)
    tables, edit = edited(layer, live)
    chosen = {part: part in parts for part in ("gamma", "beta", "b")}
    edits = partly(Edits({"it": edit}, rows=ROWS), {"it": layer}, **chosen)
    assert edits.rows == ROWS
    with torch.no_grad():
        weight, bias = edits.weights["it"].weights(layer.weight, layer.bias)
    torch.testing.assert_close((weight, bias), naive(layer, tables, **chosen), rtol=1e-4, atol=1e-5)
