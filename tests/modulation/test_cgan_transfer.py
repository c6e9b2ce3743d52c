from __future__ import annotations

import pytest
import tiny
import torch

from hmgan import components
from hmgan.backbones.biggan import BigGAN
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import LabelledGenerator
from hmgan.layers.conditional_norm import SiteConditionalNorm
from hmgan.layers.edits import SOURCE, ClassStyle, Edits
from hmgan.layers.spectral import spectral_norm
from hmgan.modulation.adafm import AdaFMHeads
from hmgan.modulation.adain import AdaINHeads
from hmgan.modulation.cgan_transfer import CGANTransfer
from hmgan.modulation.class_nets import OneHot
from hmgan.train.prepare import prepare
from modulation.naive import sample, stir


def backbone() -> BigGAN:
    torch.manual_seed(0)
    network = BigGAN(resolution=16, classes=4, channels=[5, 4, 3], z_dim=6, shared=3, attention=8).double()
    for name, buffer in network.named_buffers():
        if name.endswith("_C"):
            buffer += 0.3 * torch.rand_like(buffer)
    return network.eval().requires_grad_(False)


def transfer(modulation) -> TransferGenerator:
    source = backbone()
    return TransferGenerator(source, OneHot(3), modulation(source, 3).double())


def drawn(network, count):
    latents = network.latents(range(count))
    return latents._replace(z=latents.z.double(), z_mix=latents.z_mix.double())


def render(network, latents, labels):
    return network.render(latents, network.edits_of(torch.eye(3, dtype=torch.float64)), torch.tensor(labels))


def test_a_norms_class_part_is_a_mixture_of_the_old_classes_and_a_residual():
    """1 + P(S(c)) + Z(z) + R(c), old class by old class."""
    network = transfer(CGANTransfer)
    stir(network.trained)
    edits = network.edits_of(torch.eye(3, dtype=torch.float64))
    modulation = network.trained["modulation"]
    w_BW = network.source.styles(drawn(network, 2))[1]
    for name, norm in network.source.norms().items():
        propagation = modulation.norms[modulation.names.index(f"{name}.class")]
        got = norm._style(w_BW, Edits(styles=edits.styles, rows=3, counts=(0, 1, 1)))
        for b, label in enumerate([1, 2]):
            halves = zip((norm.scale, norm.shift), (propagation.scale, propagation.shift), (1.0, 0.0), strict=True)
            for half, (raw, part, constant) in enumerate(halves):
                matrix = raw / (spectral_norm(raw) + 1e-6)
                expected = constant + matrix[:, 3:] @ w_BW[b, 3:] + part.residual.weight[:, label]
                for k in range(4):
                    score = part.score.weight[k, label] + part.score.bias[k]
                    expected = expected + score * (matrix[:, :3] @ network.source.embedding.weight[k])
                torch.testing.assert_close(got[half][b], expected)


def test_the_new_class_takes_the_old_ones_place():
    network = transfer(CGANTransfer)
    latents = drawn(network, 2)
    with torch.no_grad():
        first, second = (
            render(network, network.source.labelled(latents, torch.tensor([old, old])), [0, 2]).image for old in (0, 3)
        )
        assert torch.equal(first, second)
        assert not torch.allclose(first, network.source(latents).image)


@pytest.mark.parametrize("modulation", [AdaFMHeads, AdaINHeads])
def test_other_modulations_start_from_the_source_old_classes_and_all(modulation):
    network = transfer(modulation)
    latents = drawn(network, 3)
    with torch.no_grad():
        got = render(network, latents, [1, 0, 2]).image
        torch.testing.assert_close(got, network.source(latents).image, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modulation", [CGANTransfer, AdaFMHeads, AdaINHeads])
def test_with_the_pretrainings_statistics_a_batch_equals_its_samples(modulation):
    network = transfer(modulation)
    stir(network.trained, 0.1)
    latents = drawn(network, 4)
    with torch.no_grad():
        batch = render(network, latents, [2, 0, 2, 1]).image
        for i, label in enumerate([2, 0, 2, 1]):
            torch.testing.assert_close(batch[i : i + 1], render(network, sample(latents, i), [label]).image)


def test_in_training_a_norms_statistics_are_the_batchs_and_are_kept():
    torch.manual_seed(0)
    norm = SiteConditionalNorm("n", 3, 2, 2).double()
    x, w_BW = torch.randn(4, 3, 2, 2).double(), torch.randn(4, 4).double()
    scale_BC, shift_BC = norm.style(w_BW).chunk(2, 1)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    normal = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    expected = scale_BC[..., None, None] * normal + shift_BC[..., None, None]
    torch.testing.assert_close(norm(x, w_BW, SOURCE), expected)
    torch.testing.assert_close(norm.mean_C, 0.1 * mean)
    torch.testing.assert_close(norm.var_C, 0.9 + 0.1 * x.var((0, 2, 3)))
    before = norm.mean_C.clone()
    norm.eval()(x, w_BW, SOURCE)
    assert torch.equal(norm.mean_C, before)


def test_a_class_edit_and_an_edit_of_the_whole_follow_each_other():
    torch.manual_seed(0)
    norm = SiteConditionalNorm("n", 3, 2, 2).double().eval()
    x, w_BW = torch.randn(1, 3, 2, 2).double(), torch.randn(1, 4).double()
    zero = torch.zeros(1, 3, dtype=torch.float64)
    of_class = Edits(styles={"n.class": ClassStyle(zero, zero)}, rows=1, counts=(1,))
    without = torch.cat([torch.zeros(1, 2), w_BW[:, 2:]], 1).double()
    torch.testing.assert_close(norm(x, w_BW, of_class), norm(x, without, SOURCE))


def test_scores_and_residuals_learn_and_the_source_does_not():
    network = transfer(CGANTransfer)
    render(network, drawn(network, 3), [0, 1, 2]).image.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.trained.parameters())
    assert all(p.grad is None for p in network.source.parameters())


def test_labels_choose_the_old_class_and_without_them_it_is_drawn():
    network = backbone()
    latents = drawn(network, 40)
    shown = latents.z[:, 6:]
    assert torch.equal(shown.sum(1), torch.ones(40, dtype=torch.float64))
    assert shown.sum(0).min() > 0
    labels = torch.arange(40) % 4
    with torch.no_grad():
        got = LabelledGenerator(network)(latents, labels).image
        assert torch.equal(got, network(network.labelled(latents, labels)).image)
        assert not torch.equal(got, network(latents).image)


def test_sources_without_classes_and_latents_that_do_not_divide_are_refused():
    source = components.build("backbone", "stylegan1", **tiny.BACKBONE)
    with pytest.raises(UserError, match=r"^modulation cgan-transfer needs a class-conditional source, "):
        CGANTransfer(source, 3)
    with pytest.raises(UserError, match=r"^biggan at 16 px needs 8 px or more and a z_dim of 3 equal parts, got 7$"):
        BigGAN(resolution=16, channels=[2, 2, 2], z_dim=7)


def labelled_pretraining(shards, *overrides):
    chosen = ("train.labels=true", "disc_head=projection", "adversarial=hinge", "train.batch=4", *overrides)
    return tiny.pretraining(shards, *chosen, backbone="biggan")


def test_pretraining_with_labels_trains_every_part_and_resumes_exactly(shards, tmp_path):
    trainers = [tiny.make_trainer(labelled_pretraining(shards), tmp_path / name) for name in ("whole", "resumed")]
    whole, resumed = trainers
    before = {name: p.clone() for name, p in whole.task.generator.named_parameters()}
    for _ in range(2):
        whole.take_step(next(whole.batches()))
        whole.step += 1
        if whole.step == 1:
            whole.save()
            whole.saver.wait()
    assert not [n for n, p in whole.task.generator.named_parameters() if torch.equal(p, before[n])]
    resumed.resume(next((tmp_path / "whole" / "checkpoints").glob("*1")))
    resumed.take_step(next(resumed.batches()))
    for part in ("generator", "discriminator", "ema"):
        for name, value in resumed.task.kept()[part].state_dict().items():
            assert torch.equal(value, whole.task.kept()[part].state_dict()[name]), name


def test_the_datas_classes_must_be_the_backbones(shards):
    with pytest.raises(UserError, match=r"^train\.labels gives 3 classes and backbone 'biggan' has 5; use"):
        prepare(labelled_pretraining(shards, "backbone.classes=5"))
    experiment = tiny.pretraining(shards, "train.labels=true")
    with pytest.raises(UserError, match=r"^train\.labels gives 3 classes and backbone 'stylegan1' has 0; use"):
        prepare(experiment)
