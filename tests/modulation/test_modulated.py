"""Modulations on StyleGAN2 and 3: the source at first, kernels per sample afterwards, and a class folded."""

from __future__ import annotations

import pytest
import torch
from backbones import naive_styled as naive
from backbones import test_stylegan3
from backbones.test_stylegan2 import SMALL
from importers.envelopes import stirred

from hmgan import components
from hmgan.generators.fold import folded
from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.adafm import AddedHeads
from modulation.naive import DIM, head, modulated, sample, stir

BACKBONES = {
    "stylegan2": ("stylegan2", SMALL),
    "stylegan2-resnet": ("stylegan2", {**SMALL, "architecture": "resnet"}),
    "stylegan3-t": ("stylegan3", {**test_stylegan3.SMALL, "depth": 4}),
    "stylegan3-r": ("stylegan3", {**test_stylegan3.SMALL, "depth": 4, "kind": "r"}),
}
SCHEMES = ["adafm", "adafm-low-rank", "adain", "adain-class-only", "cgan-transfer-port", "scale-shift"]


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def transfer(backbone, scheme="adafm", **options):
    name, table = BACKBONES[backbone]
    source = stirred("backbone", name, **table)
    class_net = components.build("class-net", "mlp", 3, dim=DIM, layers=1)
    extra = {"clusters": 3} if scheme == "cgan-transfer-port" else {}
    modulation = components.build("modulation", scheme, source, DIM, **extra, **options)
    return TransferGenerator(source, class_net, modulation)


class Edited(naive.Own):
    """What class vectors make of every tensor, from the heads' own numbers, one sample at a time."""

    def __init__(self, network, labels):
        super().__init__(dict(network.source.state_dict()))
        self.vectors = network.trained["class_net"](labels)
        self.heads = dict(zip(network.modulation.names, network.modulation.heads, strict=True))
        self.sites = network.source.sites()

    def weight(self, name, batch):
        site = name.removesuffix(".weight")
        heads, layer = self.heads[site], self.sites[site]
        return torch.stack([self.of(heads, layer, v_E) for v_E in self.vectors])

    def of(self, heads, layer, v_E):
        source = layer.weight
        if isinstance(heads, AddedHeads):
            return source + head(heads.change, v_E, 1.0).view(source.shape)
        scale, shift = (head(table, v_E, 1.0).view(source.shape[:2]) for table in (heads.scale, heads.shift))
        if source.shape[-1] > 1:
            return modulated(source, scale, shift, 1e-5)
        # A 1x1: mean and deviation over all inputs of an output.
        rows = []
        for row_I, scale_I, shift_I in zip(source[..., 0, 0], scale, shift, strict=True):
            rows.append(scale_I * (row_I - row_I.mean()) / (row_I.std() + 1e-5) + shift_I)
        return torch.stack(rows)[..., None, None]

    def bias(self, name, batch):
        own = self.heads[name.removesuffix(".bias")].bias
        return torch.stack([self.state[name] + head(own, v_E, 1.0) for v_E in self.vectors])


def slow(network, backbone, drawn, labels):
    styles, own = network.source.styles(drawn), Edited(network, labels)
    if backbone.startswith("stylegan2"):
        architecture = BACKBONES[backbone][1].get("architecture", "skip")
        return naive.stylegan2(own.state, styles, drawn.noise, architecture, own=own)[0]
    kind = BACKBONES[backbone][1].get("kind", "t")
    base = {"t": 32768, "r": 65536}[kind]
    first, *layers = test_stylegan3.stylegan3_plan.tables(16, kind, base, 6, depth=4)
    return naive.stylegan3(own.state, styles, first, layers, own=own)[0]


LABELS = torch.tensor([2, 0, 2, 1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_images_and_gradients_are_those_of_a_kernel_per_sample(backbone):
    network = transfer(backbone)
    stir(network, 0.2)
    drawn = network.latents(range(4), 0.5)
    trained = [p for p in network.trained.parameters() if p.requires_grad]
    ours, theirs = network(drawn, LABELS).image, slow(network, backbone, drawn, LABELS)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    probe = torch.randn_like(ours)
    wanted = torch.autograd.grad((theirs * probe).sum(), trained)
    for got, slow_one in zip(torch.autograd.grad((ours * probe).sum(), trained), wanted, strict=True):
        torch.testing.assert_close(got, slow_one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_transfer_starts_as_its_source_and_a_batch_is_its_samples_alone(backbone, scheme):
    network = transfer(backbone, scheme)
    drawn = network.latents(range(4), 0.5)
    with torch.no_grad():
        plain = network.source(drawn).image
        start = network(drawn, LABELS).image
        if scheme in ("adafm", "adafm-low-rank", "adain", "scale-shift"):
            torch.testing.assert_close(start, plain, rtol=1e-9, atol=1e-9)
        stir(network, 0.2)
        moved = network(drawn, LABELS).image
        assert float((moved - plain).abs().max()) > 1e-3
        for b in range(4):
            alone = network(sample(drawn, b), LABELS[b : b + 1]).image
            torch.testing.assert_close(alone[0], moved[b], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_class_folds_into_the_sources_own_layout(backbone, scheme):
    network = transfer(backbone, scheme)
    stir(network, 0.2)
    drawn = network.latents(range(2), 0.5)
    with torch.no_grad():
        for label in range(3):
            plain = folded(network, label)
            assert plain.state_dict().keys() == network.source.state_dict().keys()
            wanted = network(drawn, torch.full((2,), label)).image
            torch.testing.assert_close(plain(drawn).image, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_weights_that_train_are_normalised_at_every_use(backbone):
    network, kept = transfer(backbone, live=True), transfer(backbone)
    drawn = network.latents(range(4))
    stir(network.trained, 0.2)
    kept.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network(drawn, LABELS).image, kept(drawn, LABELS).image, rtol=1e-9, atol=1e-9)


def test_the_norms_of_edited_kernels_are_known_without_reading_them():
    network = transfer("stylegan2")
    stir(network, 0.2)
    edit = network.edits(torch.tensor([0, 2])).weights["synthesis.b8.conv0"]
    weight_ROIkk, _ = edit.weights(network.source.synthesis.b8.conv0.weight, network.source.synthesis.b8.conv0.bias)
    torch.testing.assert_close(edit.energy(weight_ROIkk * torch.nan), weight_ROIkk.square().sum((3, 4)))


def test_heads_that_would_be_too_large_are_of_low_rank_and_say_so():
    full, small = transfer("stylegan3-r"), transfer("stylegan3-r", largest=100)
    tables = [p for name, p in full.modulation.named_parameters() if name.endswith("weight")]
    count = sum(p.numel() for p in tables)
    assert small.note == f"heads of rank 4: full ones would have {count:,} numbers, above modulation.largest"
    assert full.note == ""
    drawn = small.latents(range(4))
    with torch.no_grad():
        torch.testing.assert_close(small(drawn, LABELS).image, small.source(drawn).image, rtol=1e-9, atol=1e-9)
