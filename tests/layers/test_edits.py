from __future__ import annotations

import pytest
import torch

from hmgan.layers.edits import SOURCE, AdaFM, AdaIN, ClassStyle, LiveAdaFM, kernel_statistics, per_sample


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weights_are_scale_times_normal_plus_shift_per_kernel():
    normal, scale, shift = rows(3, 2, 3, 3), rows(2, 3, 2, seed=1), rows(2, 3, 2, seed=2)
    bias_RO, bias_O = rows(2, 3, seed=3), rows(3, seed=4)
    weight, bias = AdaFM(normal, scale, shift, bias_RO).weights(torch.empty(0), bias_O)
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
        return AdaFM(parts[0], scale, shift, bias).weights(torch.empty(0), bias_O)

    inputs = [p.requires_grad_() for p in parts[1:]]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_styles_are_scaled_by_one_plus_g_and_shifted_per_row():
    g, t, scale, shift = rows(2, 3), rows(2, 3, seed=1), rows(4, 3, seed=2), rows(4, 3, seed=3)
    normal = 0.7
    new_scale, new_shift = AdaIN(g, t).style(scale, shift, (3, 1))
    for sample, row in enumerate([0, 0, 0, 1]):
        h = scale[sample] * normal + shift[sample]
        torch.testing.assert_close(new_scale[sample] * normal + new_shift[sample], (1 + g[row]) * h + t[row])


def test_a_class_style_replaces_the_samples_own():
    scale, shift = ClassStyle(rows(2, 3), rows(2, 3, seed=1)).style(rows(4, 3, seed=2), rows(4, 3, seed=3), (3, 1))
    for sample, row in enumerate([0, 0, 0, 1]):
        assert torch.equal(scale[sample], rows(2, 3)[row])
        assert torch.equal(shift[sample], rows(2, 3, seed=1)[row])


def test_a_live_weight_is_normalised_where_it_is_used():
    weight, scale, shift = rows(2, 2, 3, 3), rows(2, 2, 2, seed=1), rows(2, 2, 2, seed=2)
    mean, std = kernel_statistics(weight)
    frozen = AdaFM((weight - mean) / (std + 1e-5), scale, shift, rows(2, 2, seed=3))
    live = LiveAdaFM(1e-5, scale, shift, rows(2, 2, seed=3))
    torch.testing.assert_close(live.weights(weight, rows(2, seed=4)), frozen.weights(weight, rows(2, seed=4)))
    trained = weight.requires_grad_()
    live.weights(trained, rows(2, seed=4))[0].square().sum().backward()
    assert trained.grad.abs().min() > 0


@pytest.mark.parametrize("counts", [(2, 2, 2), (1, 0, 3), (0, 0, 4), (1, 1, 1)])
def test_rows_are_repeated_for_their_samples(counts):
    table = rows(3, 2)
    expected = [table[row] for row, count in enumerate(counts) for _ in range(count)]
    assert torch.equal(per_sample(table, counts), torch.stack(expected))


def test_the_source_has_no_edits():
    assert not SOURCE.weights
    assert not SOURCE.styles
    assert SOURCE.rows == 0
