from __future__ import annotations

import math
import statistics

import pytest
import torch

from hmgan.modulation.adafm import AdaFMHeads, SiteHeads, kernel_statistics
from hmgan.modulation.adain import AdaINHeads
from hmgan.modulation.affine import BLOCKS, AffineHead
from hmgan.modulation.sites import SiteConv2d
from modulation.naive import DIM, class_weight, generator, head


def conv(inputs: int = 3, outputs: int = 4) -> SiteConv2d:
    torch.manual_seed(0)
    return SiteConv2d("s", inputs, outputs).double().requires_grad_(False)


def test_sigma_is_unbiased_and_per_kernel():
    weight = conv().weight
    mean, std = kernel_statistics(weight)
    for o in range(4):
        for i in range(3):
            taps = weight[o, i].flatten().tolist()
            assert mean[o, i].item() == pytest.approx(statistics.mean(taps))
            assert std[o, i].item() == pytest.approx(statistics.stdev(taps))


@pytest.mark.parametrize("init", ["source", "align"])
def test_a_rows_weights_follow_equations_3_to_5(init):
    layer = conv()
    heads = SiteHeads(layer.site(), DIM, init, 1e-5).double()
    for parameter in heads.parameters():
        parameter.data += torch.randn_like(parameter)
    v_RE = torch.randn(3, DIM, dtype=torch.float64)
    weight, bias = heads(v_RE).weights(layer.bias)
    for row in range(3):
        expected_weight, expected_bias = class_weight(layer, heads, v_RE[row])
        torch.testing.assert_close(weight[row], expected_weight)
        torch.testing.assert_close(bias[row], expected_bias)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_init_source_gives_the_sources_weights_for_any_class_vector(epsilon):
    layer = conv()
    layer.weight[0, 0] = 0.3  # a constant kernel: sigma = 0
    heads = SiteHeads(layer.site(), DIM, "source", epsilon).double()
    weight, bias = heads(torch.randn(2, DIM, dtype=torch.float64)).weights(layer.bias)
    assert weight.isfinite().all()
    # The heads' own initial values are float32: double() came after.
    torch.testing.assert_close(weight, (layer.weight * layer.gain).expand_as(weight), rtol=1e-6, atol=1e-7)
    assert torch.equal(bias, layer.bias.expand_as(bias))


def test_a_constant_kernel_still_learns_its_shift():
    layer = conv()
    layer.weight[:] = 0.3
    heads = SiteHeads(layer.site(), DIM, "source", 1e-5).double()
    weight, _ = heads(torch.ones(1, DIM, dtype=torch.float64)).weights(layer.bias)
    weight.sum().backward()
    for parameter in heads.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert heads.shift.bias.grad.abs().min() > 0


def test_random_heads_are_unit_normal_and_their_biases_zero():
    torch.manual_seed(0)
    heads = SiteHeads(SiteConv2d("s", 32, 32).site(), 16, "align", 1e-5)
    for layer in (heads.scale, heads.shift, heads.bias):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.1)
        assert not layer.bias.any()


def test_init_align_is_not_the_source():
    network, at_source = generator(init="align"), generator(init="source")
    v = torch.randn(1, DIM, dtype=torch.float64)
    name = network.trained["modulation"].names[0]
    source_weight = network.source.sites()[name].site().weight
    random = network.edits_of(v).weights[name].weights(torch.zeros(5))[0]
    exact = at_source.edits_of(v).weights[name].weights(torch.zeros(5))[0]
    assert (random[0] - source_weight).norm() > source_weight.norm()
    assert (exact[0] - source_weight).norm() < 1e-6 * source_weight.norm()


def test_every_convolution_of_the_backbone_has_its_heads():
    network = generator()
    modulation = AdaFMHeads(network.source, DIM)
    edits = modulation(torch.randn(2, DIM))
    assert set(edits.weights) == {
        "blocks.0.conv2",
        "blocks.1.conv1",
        "blocks.1.conv2",
        "blocks.2.conv1",
        "blocks.2.conv2",
    }
    assert edits.rows == 2
    assert not edits.activations


def test_the_normalised_source_is_neither_trained_nor_saved():
    modulation = generator().trained["modulation"]
    assert not any("normal" in name for name, _ in modulation.named_parameters())
    assert not any("normal" in name for name in modulation.state_dict())


@pytest.mark.parametrize("outputs", [1, 7, BLOCKS, 3 * BLOCKS, 130])
def test_an_affine_head_is_one_linear_map_however_its_outputs_are_blocked(outputs):
    torch.manual_seed(0)
    layer = AffineHead(DIM, outputs, unit=0.3, spread=1.0).double()
    layer.bias.data.normal_()
    v_RE = torch.randn(3, DIM, dtype=torch.float64)
    table = layer(v_RE)
    assert table.shape == (3, outputs)
    for row in range(3):
        torch.testing.assert_close(table[row], head(layer, v_RE[row], 0.3))


@pytest.mark.parametrize("outputs", [3, 2 * BLOCKS])
def test_derivatives_of_an_affine_head_are_right(outputs):
    torch.manual_seed(0)
    layer = AffineHead(3, outputs, spread=1.0).double()

    def run(v_RE, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (v_RE,)).square()

    inputs = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True), *layer.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_the_gradient_of_a_heads_weight_lies_as_the_weight_does():
    """Otherwise every step copies as much memory as the model has."""
    layer = AffineHead(DIM, 2 * BLOCKS, spread=1.0)
    layer(torch.randn(2, DIM)).sum().backward()
    assert layer.weight.grad.stride() == layer.weight.stride()


def test_a_heads_gain_is_that_of_its_inputs_times_its_unit():
    layer = AffineHead(8, 4, unit=0.5, spread=1.0)
    assert layer.gain == pytest.approx(0.5 * math.sqrt(2 / 8))


@pytest.mark.parametrize("init", ["source", "align"])
def test_adain_heads_give_a_scale_and_a_shift_per_normalisation(init):
    network = generator()
    modulation = AdaINHeads(network.source, DIM, init=init).double()
    edits = modulation(torch.randn(2, DIM, dtype=torch.float64))
    assert set(edits.activations) == set(network.source.norms())
    assert not edits.weights
    for name, norm in network.source.norms().items():
        edit = edits.activations[name]
        assert edit.scale_RC.shape == edit.shift_RC.shape == (2, norm.channels)
        assert (edit.scale_RC.any() or edit.shift_RC.any()) == (init == "align")
