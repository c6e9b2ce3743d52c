from __future__ import annotations

import dataclasses

import pytest
import torch
from modulation.naive import DIM, class_weight, generator, latents, sample, stir
from torch.func import functional_call, vmap

from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.adain import AdaINHeads
from hmgan.types import Latents

LABELS = [
    [0, 0, 0],  # R = 1
    [2, 0, 1],  # R = B, unsorted
    [1, 2, 2, 0, 1, 2],  # unequal counts, unsorted
    [2, 2, 0],  # a class between them unused
]


def adain_generator() -> TransferGenerator:
    network = generator()
    modulation = AdaINHeads(network.source, DIM).double()
    return TransferGenerator(network.source, network.trained["class_net"], modulation)


@pytest.fixture(params=["adafm", "adain"])
def network(request) -> TransferGenerator:
    return generator() if request.param == "adafm" else adain_generator()


@pytest.mark.parametrize("channels", [(5, 4, 3), (4, 4, 3, 3, 2, 2)])
def test_init_source_shows_the_sources_images_for_every_class(channels):
    """128 px reaches the fused layers."""
    network = generator(channels=channels)
    drawn = latents(network, 3)
    with torch.no_grad():
        source, ours = network.source(drawn), network(drawn, torch.tensor([1, 0, 2]))
    # Float32 rounding: that is what the heads began in.
    torch.testing.assert_close(ours.image, source.image, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.features, source.features, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_init_source_is_exact_in_float32_too_and_with_a_constant_kernel():
    network = generator()
    network.source.blocks[1].conv2.weight.data[:2] = 0.2
    modulation = type(network.trained["modulation"])(network.source, DIM)
    network = TransferGenerator(network.source, network.trained["class_net"], modulation).float()
    drawn = network.latents([1, 2])
    with torch.no_grad():
        source, ours = network.source(drawn).image, network(drawn, torch.tensor([1, 0])).image
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, source, rtol=1e-3, atol=1e-4)


def test_adain_heads_at_zero_are_the_source_exactly():
    network = adain_generator()
    drawn = latents(network, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(drawn, torch.tensor([1, 0, 2])).image, network.source(drawn).image)


@pytest.mark.parametrize("labels", LABELS)
def test_a_batch_equals_its_samples_one_by_one(network, labels):
    stir(network)
    drawn = latents(network, len(labels))
    with torch.no_grad():
        batch = network(drawn, torch.tensor(labels))
        for i, label in enumerate(labels):
            alone = network(sample(drawn, i), torch.tensor([label]))
            torch.testing.assert_close(batch.image[i : i + 1], alone.image)
            for a, b in zip(batch.features, alone.features, strict=True):
                torch.testing.assert_close(a[i : i + 1], b)


@pytest.mark.parametrize("labels", LABELS)
def test_a_sample_is_the_source_with_its_classes_kernels_in_place(labels):
    """Eqs. 3 to 5 kernel by kernel, put into the source by functional_call, one sample at a time."""
    network = generator()
    stir(network)
    drawn = latents(network, len(labels))
    modulation = network.trained["modulation"]
    sites = network.source.sites()
    with torch.no_grad():
        batch = network(drawn, torch.tensor(labels)).image
        for i, label in enumerate(labels):
            v_E = network.trained["class_net"](torch.tensor([label]))[0]
            baked = {}
            for name, heads in zip(modulation.names, modulation.heads, strict=True):
                weight, bias = class_weight(sites[name], heads, v_E)
                baked |= {f"{name}.weight": weight / sites[name].gain, f"{name}.bias": bias}
            alone = functional_call(network.source, baked, (sample(drawn, i),)).image
            torch.testing.assert_close(batch[i], alone[0])


def test_grouped_classes_equal_vmap_over_samples():
    """An oracle of another kind: one set of kernels per sample, mapped over the batch."""
    network = generator()
    stir(network)
    labels = torch.tensor([1, 2, 1, 0])
    drawn = latents(network, 4, mixing=0.0)
    sites = network.source.sites()
    edits = network.edits(labels)
    stacked = {}
    for name, edit in edits.weights.items():
        weight, bias = edit.weights(sites[name].weight, sites[name].bias)
        stacked |= {f"{name}.weight": weight / sites[name].gain, f"{name}.bias": bias}
    styles_KBW = torch.stack(network.source.styles(drawn))

    class Synthesis(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network.source

        def forward(self, styles_KW, noise):
            return self.inner.synthesise(list(styles_KW[:, None]), [n[None] for n in noise]).image[0]

    def one(weights, styles_KW, noise):
        return functional_call(Synthesis(), {f"inner.{k}": w for k, w in weights.items()}, (styles_KW, noise))

    with torch.no_grad():
        expected = vmap(one, in_dims=(0, 1, 0))(stacked, styles_KBW, drawn.noise)
        torch.testing.assert_close(network(drawn, labels).image, expected)


def test_edits_are_computed_once_per_distinct_class(network):
    rows = []
    for module in (network.trained["class_net"], *network.trained["modulation"].heads):
        module.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    with torch.no_grad():
        network(latents(network, 6), torch.tensor([2, 0, 2, 2, 0, 2]))
    assert rows == [2] * (1 + len(network.trained["modulation"].heads))


def test_rows_without_samples_change_nothing(network):
    stir(network)
    drawn = latents(network, 3)
    with torch.no_grad():
        edits = network.edits(torch.tensor([0, 1, 2]))
        rendered = network.render(drawn, edits, torch.tensor([2, 0, 2])).image
        torch.testing.assert_close(rendered, network(drawn, torch.tensor([2, 0, 2])).image)


def test_edits_can_be_kept_and_rendered_again(network):
    stir(network)
    drawn = latents(network, 2)
    with torch.no_grad():
        edits = network.edits(torch.tensor([1]))
        first, again = (network.render(drawn, edits, torch.tensor([0, 0])).image for _ in range(2))
        assert torch.equal(first, again)
        torch.testing.assert_close(first, network(drawn, torch.tensor([1, 1])).image)


def test_class_vectors_between_two_classes_give_images_between_them():
    network = generator()
    stir(network)
    drawn = latents(network, 1)
    twice = Latents(*(t.repeat(2, *[1] * (t.dim() - 1)) if torch.is_tensor(t) else t for t in drawn))
    twice = twice._replace(noise=tuple(n.repeat(2, 1, 1, 1) for n in drawn.noise))
    with torch.no_grad():
        v_RE = network.trained["class_net"](torch.tensor([0, 1]))
        ends = network.render(twice, network.edits_of(v_RE), torch.tensor([0, 1])).image
        near = network.render(drawn, network.edits_of(torch.lerp(v_RE[:1], v_RE[1:], 1e-6)), torch.tensor([0])).image
    torch.testing.assert_close(near, ends[:1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(ends[0], ends[1], atol=1e-3)


def test_gradients_of_a_mixed_batch_are_the_sum_of_its_samples(network):
    stir(network)
    labels = torch.tensor([2, 0, 2])
    drawn = latents(network, 3)
    weight = torch.randn(3, 3, network.resolution, network.resolution, dtype=torch.float64)
    trained = list(network.trained.parameters())
    whole = torch.autograd.grad((network(drawn, labels).image * weight).sum(), trained)
    parts = [
        torch.autograd.grad((network(sample(drawn, i), labels[i : i + 1]).image * weight[i]).sum(), trained)
        for i in range(3)
    ]
    for grad, *shares in zip(whole, *parts, strict=True):
        torch.testing.assert_close(grad, sum(shares))


def test_only_the_class_net_and_the_heads_train(network):
    drawn = latents(network, 2)
    network(drawn, torch.tensor([0, 1])).image.square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in network.source.parameters())
    assert all(p.requires_grad for p in network.trained.parameters())


def test_class_gradients_flow_through_stirred_heads_to_the_class_net(network):
    stir(network)
    network(latents(network, 2), torch.tensor([0, 2])).image.square().sum().backward()
    rows = network.trained["class_net"].embedding.weight.grad
    assert [bool(row.any()) for row in rows] == [True, False, True]
    assert all(p.grad.any() for p in network.trained["modulation"].parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["adafm", "adain"])
def test_the_generator_compiles_as_one_graph(kind):
    network = (generator() if kind == "adafm" else adain_generator()).float()
    stir(network)
    drawn = network.latents([1, 2, 3])
    styles = network.source.styles(drawn)
    v_RE = network.trained["class_net"](torch.arange(2)).detach()

    def run(v_RE, styles, noise):
        edits = dataclasses.replace(network.edits_of(v_RE), counts=(1, 2))
        return network.source.synthesise(styles, noise, edits).image

    trained = [p for p in network.trained["modulation"].parameters()]
    eager = run(v_RE, styles, drawn.noise)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(v_RE, styles, drawn.noise)
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), trained) for y in (compiled, eager)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
