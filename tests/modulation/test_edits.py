from __future__ import annotations

import pytest
import torch

from hmgan.modulation.edits import SOURCE, AdaFM, AdaIN, per_sample


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weights_are_scale_times_normal_plus_shift_per_kernel():
    normal, scale, shift = rows(3, 2, 3, 3), rows(2, 3, 2, seed=1), rows(2, 3, 2, seed=2)
    bias_RO, bias_O = rows(2, 3, seed=3), rows(3, seed=4)
    weight, bias = AdaFM(normal, scale, shift, bias_RO).weights(bias_O)
    assert weight.shape == (2, 3, 2, 3, 3)
    for r in range(2):
        for o in range(3):
            assert torch.equal(bias[r, o], bias_O[o] + bias_RO[r, o])
            for i in range(2):
                torch.testing.assert_close(weight[r, o, i], scale[r, o, i] * normal[o, i] + shift[r, o, i])


def test_derivatives_of_per_row_weights_are_right():
    parts = [rows(2, 2, 3, 3), rows(2, 2, 2, seed=1), rows(2, 2, 2, seed=2), rows(2, 2, seed=3)]
    bias_O = rows(2, seed=4)

    def run(scale, shift, bias):
        return AdaFM(parts[0], scale, shift, bias).weights(bias_O)

    inputs = [p.requires_grad_() for p in parts[1:]]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_activations_are_scaled_by_one_plus_g_and_shifted_per_row():
    g, t, h = rows(2, 3), rows(2, 3, seed=1), rows(4, 3, 2, 2, seed=2)
    out = AdaIN(g, t).activation(h, (3, 1))
    for sample, row in enumerate([0, 0, 0, 1]):
        for c in range(3):
            torch.testing.assert_close(out[sample, c], (1 + g[row, c]) * h[sample, c] + t[row, c])


@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 0, 3), (0, 0, 4), (1, 1, 1)])
def test_rows_are_repeated_for_their_samples(counts):
    table = rows(3, 2)
    expected = [table[row] for row, count in enumerate(counts) for _ in range(count)]
    assert torch.equal(per_sample(table, counts), torch.stack(expected))


def test_the_source_has_no_edits():
    assert not SOURCE.weights
    assert not SOURCE.activations
    assert SOURCE.rows == 0
