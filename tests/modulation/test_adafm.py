from __future__ import annotations

import math
import statistics
from types import SimpleNamespace

import pytest
import torch

from hmgan import components
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.edits import kernel_statistics
from hmgan.layers.sites import SiteConv2d
from hmgan.modulation.adafm import AdaFMHeads, LowRankAdaFMHeads, SiteHeads
from hmgan.modulation.adain import AdaINHeads, ClassStyleHeads
from hmgan.modulation.affine import BLOCKS, AffineHead, LowRankHead
from modulation.naive import DIM, class_weight, generator, head, latents


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
    weight, bias = heads(v_RE).weights(layer.weight, layer.bias)
    for row in range(3):
        expected_weight, expected_bias = class_weight(layer, heads, v_RE[row])
        torch.testing.assert_close(weight[row], expected_weight)
        torch.testing.assert_close(bias[row], expected_bias)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_init_source_gives_the_sources_weights_for_any_class_vector(epsilon):
    layer = conv()
    layer.weight[0, 0] = 0.3  # a constant kernel: sigma = 0
    heads = SiteHeads(layer.site(), DIM, "source", epsilon).double()
    weight, bias = heads(torch.randn(2, DIM, dtype=torch.float64)).weights(layer.weight, layer.bias)
    assert weight.isfinite().all()
    # The heads' own initial values are float32: double() came after.
    torch.testing.assert_close(weight, (layer.weight * layer.gain).expand_as(weight), rtol=1e-6, atol=1e-7)
    assert torch.equal(bias, layer.bias.expand_as(bias))


def test_a_constant_kernel_still_learns_its_shift():
    layer = conv()
    layer.weight[:] = 0.3
    heads = SiteHeads(layer.site(), DIM, "source", 1e-5).double()
    weight, _ = heads(torch.ones(1, DIM, dtype=torch.float64)).weights(layer.weight, layer.bias)
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
    random = network.edits_of(v).weights[name].weights(torch.empty(0), torch.zeros(5))[0]
    exact = at_source.edits_of(v).weights[name].weights(torch.empty(0), torch.zeros(5))[0]
    assert (random[0] - source_weight).norm() > source_weight.norm()
    assert (exact[0] - source_weight).norm() < 1e-6 * source_weight.norm()


def test_every_convolution_of_the_backbone_has_its_heads():
    network = generator()
    modulation = AdaFMHeads(network.source, DIM).double()
    edits = modulation(torch.randn(2, DIM, dtype=torch.float64))
    assert set(edits.weights) == {
        "blocks.0.conv2",
        "blocks.1.conv1",
        "blocks.1.conv2",
        "blocks.2.conv1",
        "blocks.2.conv2",
    }
    assert edits.rows == 2
    assert not edits.styles


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
    assert set(edits.styles) == set(network.source.norms())
    assert not edits.weights
    for name, norm in network.source.norms().items():
        edit = edits.styles[name]
        assert edit.scale_RC.shape == edit.shift_RC.shape == (2, norm.channels)
        assert (edit.scale_RC.any() or edit.shift_RC.any()) == (init == "align")


def test_a_class_style_starts_at_the_mean_style_and_ignores_z():
    network = generator()
    modulation = ClassStyleHeads(network.source, DIM).double()
    edits = modulation(torch.randn(2, DIM, dtype=torch.float64))
    mean_W = network.source.mean_style()
    for name, norm in network.source.norms().items():
        expected = norm.style(mean_W[None])[0]
        both = torch.cat([edits.styles[name].scale_RC, edits.styles[name].shift_RC], 1)
        torch.testing.assert_close(both, expected.expand(2, -1), rtol=1e-6, atol=1e-6)
    changed = TransferGenerator(network.source, network.trained["class_net"], modulation)
    drawn = latents(network, 2)
    other = drawn._replace(z=-drawn.z, z_mix=-drawn.z_mix)
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(changed(drawn, labels).image, changed(other, labels).image)
    assert not torch.allclose(network(drawn, labels).image, network(other, labels).image)


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_tables_are_a_base_and_outer_products(rank):
    torch.manual_seed(0)
    base = torch.randn(5, 4, dtype=torch.float64)
    layer = LowRankHead(rank, True, DIM, (5, 4), 0.3, base, 1.0).double()
    v_RE = torch.randn(3, DIM, dtype=torch.float64)
    table = layer(v_RE).view(3, 5, 4)
    for row in range(3):
        left, right = head(layer.left, v_RE[row], 1.0).view(5, rank), head(layer.right, v_RE[row], 1.0).view(4, rank)
        products = sum(torch.outer(left[:, k], right[:, k]) for k in range(rank))
        torch.testing.assert_close(table[row], 0.3 * (layer.base_OI + products / math.sqrt(rank)))
        assert torch.linalg.matrix_rank(table[row] - 0.3 * layer.base_OI) == rank


@pytest.mark.parametrize("base", ["trained", "frozen"])
def test_low_rank_heads_start_at_the_source_and_every_part_can_learn(base):
    network = generator()
    modulation = LowRankAdaFMHeads(network.source, DIM, rank=2, base=base).double()
    low = TransferGenerator(network.source, network.trained["class_net"], modulation)
    drawn, labels = latents(network, 3), torch.tensor([0, 2, 1])
    torch.testing.assert_close(low(drawn, labels).image, network.source(drawn).image, rtol=1e-5, atol=1e-5)
    low(drawn, labels).image.square().sum().backward()
    learns = {name for name, p in modulation.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("scale.left" in name for name in learns)
    assert any("base_OI" in name for name in learns) == (base == "trained")


def test_low_rank_heads_are_far_smaller_than_full_ones_at_the_papers_widths():
    site = SiteConv2d("s", 512, 512).requires_grad_(False)
    backbone = SimpleNamespace(sites=lambda: {"s": site})
    full, low = AdaFMHeads(backbone, 64), LowRankAdaFMHeads(backbone, 64, rank=4)
    count = [sum(p.numel() for p in m.parameters()) for m in (full, low)]
    assert count[1] < count[0] / 25


def test_a_rank_below_one_is_refused():
    with pytest.raises(UserError, match=r"^modulation\.rank should be greater than or equal to 1, got 0$"):
        components.check("modulation", "adafm-low-rank", {"rank": 0})
