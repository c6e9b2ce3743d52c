from __future__ import annotations

import pytest
import torch

from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.modulation.cgan_transfer_port import CGANTransferPort
from hmgan.modulation.class_nets import OneHot
from hmgan.modulation.clusters import k_means
from modulation.naive import generator, latents, sample, stir


def port(classes: int = 3, **settings: object) -> TransferGenerator:
    source = generator().source.requires_grad_(False)
    modulation = CGANTransferPort(source, classes, **{"clusters": 4, **settings}).double()
    return TransferGenerator(source, OneHot(classes).double(), modulation)


def edits(network: TransferGenerator, labels: list[int]):
    v_RE = torch.eye(network.trained["class_net"].dim, dtype=torch.float64)[labels]
    return network.edits_of(v_RE)


def double_one_hot(network: TransferGenerator, drawn, labels: list[int]):
    """Rendered from float64 class vectors."""
    rows = torch.tensor(labels)
    return network.render(drawn, edits(network, [0, 1, 2]), rows)


def test_it_starts_from_the_source_for_every_class():
    network = port()
    drawn = latents(network, 3)
    with torch.no_grad():
        expected = network.source(drawn)
        got = double_one_hot(network, drawn, [2, 0, 1])
    torch.testing.assert_close(got.image, expected.image, rtol=1e-5, atol=1e-6)


def test_a_norms_scale_and_shift_are_the_mixture_the_latents_part_and_the_residual():
    """1 + P(S(c)) + Z(z) + R(c), cluster by cluster; the source's own constant is inside P."""
    network = port(init="orthogonal")
    stir(network)
    modulation = network.trained["modulation"]
    w_BW = network.source.styles(latents(network, 2, mixing=0.0))[0]
    clusters = k_means(network.source.style_samples(), 4, 0)
    mean_W = sum(share * w for share, w in zip(clusters.share_K.double(), clusters.centre_KD, strict=True))
    for name, norm in network.source.norms().items():
        weight, bias = norm.style.weight * norm.style.gain, norm.style.bias
        parts = modulation.norms[modulation.names.index(name)]
        offset = edits(network, [0, 1, 2]).styles[name]
        plain = norm.style(w_BW).chunk(2, 1)
        got = offset.style(*plain, (0, 1, 1))
        for b, label in enumerate([1, 2]):
            latent_part = weight @ (w_BW[b] - mean_W)  # Z: how far this sample's style is from the mean
            for half, part in enumerate((parts.scale, parts.shift)):
                rows = slice(half * norm.channels, (half + 1) * norm.channels)
                expected = latent_part[rows] + part.residual.weight[:, label]
                for k, w_W in enumerate(clusters.centre_KD):
                    score = part.score.weight[k, label] + part.score.bias[k]
                    expected = expected + score * (weight @ w_W + bias)[rows]
                torch.testing.assert_close(got[half][b], expected, rtol=1e-5, atol=1e-6)


def test_the_penalties_are_means_of_scores_and_residuals_summed_over_tables():
    network = port(l1=0.3, l2=0.7)
    stir(network)
    l1 = l2 = 0.0
    for name, parameter in network.trained["modulation"].named_parameters():
        if "residual" in name:
            l2 += float(parameter.detach().square().mean())
    for norm in network.trained["modulation"].norms:
        for part in (norm.scale, norm.shift):
            values = [*part.score.weight.flatten().tolist(), *part.score.bias.tolist()]
            l1 += sum(abs(value) for value in values) / len(values)
    got = {name: value.detach() for name, value in network.penalties().items()}
    assert float(got["loss/l1-scores"]) == pytest.approx(0.3 * l1)
    assert float(got["loss/l2-residuals"]) == pytest.approx(0.7 * l2)


def test_a_batch_equals_its_samples_one_by_one():
    network = port()
    stir(network)
    drawn = latents(network, 4)
    with torch.no_grad():
        batch = double_one_hot(network, drawn, [2, 0, 2, 1]).image
        for i, label in enumerate([2, 0, 2, 1]):
            alone = double_one_hot(network, sample(drawn, i), [label]).image
            torch.testing.assert_close(batch[i : i + 1], alone)


def test_every_score_and_residual_learns_and_the_old_styles_do_not():
    network = port()
    double_one_hot(network, latents(network, 3), [0, 1, 2]).image.square().sum().backward()
    for name, parameter in network.trained["modulation"].named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert {name.rsplit(".", 2)[1] for name, _ in network.trained["modulation"].named_parameters()} == {
        "score",
        "residual",
    }


def test_the_old_styles_are_saved_so_that_a_load_need_not_find_the_same_clusters():
    first, second = port(seed=0), port(seed=1)
    second.source.load_state_dict(first.source.state_dict())
    second.trained.load_state_dict(first.trained.state_dict())
    drawn = latents(first, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            double_one_hot(first, drawn, [1, 0]).image, double_one_hot(second, drawn, [1, 0]).image
        )


def test_orthogonal_scores_and_residuals_are_not_the_source():
    network = port(init="orthogonal")
    drawn = latents(network, 2)
    with torch.no_grad():
        assert not torch.allclose(double_one_hot(network, drawn, [1, 0]).image, network.source(drawn).image, atol=1e-2)
    weight = network.trained["modulation"].norms[0].scale.score.weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(3, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_a_source_without_adaptive_normalisations_is_refused(monkeypatch):
    source = generator().source.requires_grad_(False)
    monkeypatch.setattr(source, "norms", dict)
    with pytest.raises(UserError, match=r"^modulation cgan-transfer-port edits adaptive normalisations, and this "):
        CGANTransferPort(source, 3)
