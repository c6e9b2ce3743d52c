"""`hmgan import` of each foreign format: written around networks of ours, read back, images and logits equal."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hmgan import components
from hmgan.backbones import stylegan3_plan
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.importers.convert import import_checkpoint
from importers import envelopes, envelopes_tf
from importers.envelopes import JUDGE, SMALL, release_state, stirred

BRANCHES = {
    "skip": {},
    "resnet": {"architecture": "resnet"},
    "orig": {"architecture": "orig"},
    "clamped": {"clamp": 0.8},
    "tall": {"height": 16, "width": 8},
    "wider-than-resolution": {"height": 12, "width": 20},
    "six-taps": {"filter": [0.0625, 0.125, 0.3125, 0.25, 0.1875, 0.0625]},
    "four-channels": {"channels_out": 4},
    "mapping": {"mapping_lr_mult": 0.02},
    "classes": {"label_dim": 3},
}


def imported(tmp_path, data, **options):
    (tmp_path / "file.pkl").write_bytes(data)
    report = import_checkpoint(tmp_path / "file.pkl", tmp_path / "out", report=lambda report: None, **options)
    return report, load_source(str(tmp_path / "out"))


def assert_same_images(ours, theirs):
    drawn = theirs.latents(range(3))
    noise = tuple(n.double() for n in drawn.noise)
    drawn = drawn._replace(z=drawn.z.double(), noise=noise, z_mix=drawn.z_mix.double())
    ours.requires_grad_(False)  # what trains moves its mean w
    ours, theirs = deepcopy(ours).double(), deepcopy(theirs).double()  # so that no CPU's order of sums shows
    for psi in (1.0, 0.6):
        got, expected = ours(drawn, truncation=psi).image, theirs(drawn, truncation=psi).image
        torch.testing.assert_close(got, expected, rtol=1.3e-6, atol=1e-5)  # files have weights in float32


def assert_same_logits(source, discriminator, channels=3):
    choice, state = source.discriminator
    network = components.build("discriminator", choice.name, 1, **choice.options)
    network.load_source(state)
    images = torch.randn(4, channels, 16, 16, generator=torch.Generator().manual_seed(5))
    labels = torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(network(images, labels).logit, discriminator(images, labels).logit)


def attributes_of(options, tensors):
    """What the release's layers say of themselves."""
    said = {
        "": {"c_dim": options.get("label_dim", 0)},
        "mapping.fc0": {"bias_gain": options.get("mapping_lr_mult", 0.01)},
    }
    for name in tensors:
        path = name.rpartition(".")[0]
        if "conv" in path or "torgb" in path or "fromrgb" in path:
            said.setdefault(path, {"conv_clamp": options.get("clamp"), "activation": "lrelu"})
    return said


def filters(options, state):
    taps = torch.tensor(options.get("filter", [0.125, 0.375, 0.375, 0.125]))
    return {f"synthesis.{b}.resample_filter": torch.outer(taps, taps) for b in ("b8", "b16.conv0")} | state


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_stylegan2_pickle_draws_what_it_drew(tmp_path, branch, protocol):
    options = SMALL | BRANCHES[branch]
    network = stirred("backbone", "stylegan2", **options)
    state = filters(options, network.state_dict())
    data = envelopes.nvidia({"G": None, "D": None, "G_ema": state}, attributes_of(options, state), protocol)
    report, source = imported(tmp_path, data)
    assert_same_images(source.backbone, network)
    assert source.config["imported_weights"] == "G_ema"
    assert "read as a network pickle of stylegan2-ada-pytorch or stylegan3" in report.notes[0]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_a_discriminator_judges_as_it_did_frozen_layers_too(tmp_path, architecture, frozen):
    network = stirred("backbone", "stylegan2", **SMALL)
    judge = stirred("discriminator", "stylegan2", (1,), **JUDGE, architecture=architecture, stddev_group=2)
    parts = {"G": network.state_dict(), "D": release_state(judge), "G_ema": network.state_dict()}
    said = attributes_of({}, [*parts["G"], *parts["D"]]) | {"b4.mbstd": {"group_size": 2, "num_channels": 1}}
    parts["D"] = parts["D"] | {"b4.mbstd.unused_filter": torch.ones(4, 4)}
    parts["D"].pop("b4.mbstd.unused_filter")
    data = envelopes.nvidia(parts, said, buffers=("D",) if frozen else ())
    report, source = imported(tmp_path, data, stddev_group=2)
    assert_same_logits(source, judge)
    assert {left.network for left in report.left_out} == {"raw generator", "augment_pipe", "training_set_kwargs"}


def test_an_averaged_generator_saved_alone_is_read(tmp_path):
    network = stirred("backbone", "stylegan2", **SMALL)
    state = network.state_dict()
    report, source = imported(tmp_path, envelopes.nvidia({"G_ema": state}, attributes_of({}, state), alone=True))
    assert_same_images(source.backbone, network)
    assert "no discriminator of StyleGAN2 in the file; training will begin with a new one" in report.notes


def test_layers_without_noise_have_a_strength_of_zero(tmp_path):
    network = stirred("backbone", "stylegan2", **SMALL)
    state = {k: v for k, v in network.state_dict().items() if "noise" not in k}
    report, source = imported(tmp_path, envelopes.nvidia({"G_ema": state}, attributes_of({}, state)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.zero_()
    assert_same_images(source.backbone, network)
    assert "generator synthesis.b4.conv1.noise_strength: no noise in the file" in report.new


@pytest.mark.parametrize("kind", ["t", "r"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_a_stylegan3_pickle_draws_what_it_drew_layer_by_layer(tmp_path, kind, protocol):
    options = {"resolution": 16, "channel_max": 6, "z_dim": 7, "w_dim": 8}
    network = stirred("backbone", "stylegan3", **options, kind=kind)
    layers = stylegan3_plan.tables(16, kind, *{"t": (32768, 6), "r": (65536, 6)}[kind])
    state = network.state_dict()
    _, source = imported(tmp_path, envelopes.nvidia({"G_ema": state}, envelopes.stylegan3_attributes(layers), protocol))
    assert_same_images(source.backbone, network)
    listed = json.loads((tmp_path / "out" / "config.json").read_text())["backbone"]["layers"]
    assert [one["name"] for one in listed] == [one["name"] for one in layers]
    assert listed == json.loads(json.dumps(layers))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-torch-1.6"])
def test_the_ports_training_checkpoint_is_read_with_its_namespace(tmp_path, zipped):
    network = stirred("backbone", "stylegan2", **SMALL)
    judge = stirred("discriminator", "stylegan2", (1,), **JUDGE)
    generator = envelopes.rosinality_generator(network.state_dict())
    content = envelopes.training_checkpoint(generator, envelopes.rosinality_discriminator(release_state(judge)))
    report, source = imported(tmp_path, envelopes.saved(content, zipped))
    network.mapping.w_avg.copy_(network.style_samples(4096).mean(0))
    assert_same_images(source.backbone, network)
    assert_same_logits(source, judge)
    assert report.new == ("generator mapping.w_avg: mean of 4096 mapped z",)
    theirs = {match.theirs for match in report.matched} | {left.theirs for left in report.left_out}
    assert {f"g_ema/{k}" for k in generator if not k.endswith("kernel")} <= theirs
    assert {"args", "g_optim", "ada_aug_p"} <= theirs


def test_a_converted_official_file_keeps_its_mean_w(tmp_path):
    network = stirred("backbone", "stylegan2", **SMALL)
    state = network.state_dict()
    content = {"g_ema": envelopes.rosinality_generator(state), "latent_avg": state["mapping.w_avg"]}
    report, source = imported(tmp_path, envelopes.saved(content))
    assert_same_images(source.backbone, network)
    assert report.new == ()


@pytest.mark.parametrize("branch", ["skip", "resnet", "clamped"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_tensorflow_pickle_draws_and_judges_as_it_did(tmp_path, branch, protocol):
    options = BRANCHES[branch]
    network = stirred("backbone", "stylegan2", **SMALL, **options)
    judge = stirred("discriminator", "stylegan2", (1,), **JUDGE, clamp=options.get("clamp", 0.0))
    tables = envelopes_tf.tf_generator(network.state_dict())
    networks = tables, envelopes_tf.tf_discriminator(release_state(judge)), tables
    static = {"conv_clamp": options["clamp"]} if "clamp" in options else {}
    report, source = imported(tmp_path, envelopes_tf.tensorflow(networks, protocol, static=static))
    assert_same_images(source.backbone, network)
    assert_same_logits(source, judge)
    assert source.config["imported_weights"] == "Gs"
    assert {left.theirs for left in report.left_out if left.network == "Gs"} == set()


def test_labels_that_join_z_before_both_are_normalised_are_read(tmp_path):
    network = stirred("backbone", "stylegan2", **SMALL, label_dim=3, label_joins_z=True)
    network.mapping.embed.bias.zero_()
    judge = stirred("discriminator", "stylegan2", (1,), **JUDGE)
    tables, judged = (
        envelopes_tf.tf_generator(network.state_dict()),
        envelopes_tf.tf_discriminator(release_state(judge)),
    )
    label_LZ = tables["mapping"]["LabelConcat/weight"] = network.mapping.embed.weight.T.numpy() / 3**0.5
    (weight_F1, bias_1) = judged[""]["Output/weight"], judged[""]["Output/bias"]
    judged[""]["Output/weight"] = weight_F1 + weight_F1.std() * np.array([[-1, 0, 1]], np.float32)
    judged[""]["Output/bias"] = bias_1 + np.array([1, -1, 0], np.float32)
    report, source = imported(tmp_path, envelopes_tf.tensorflow((tables, judged, tables)))
    assert_same_images(source.backbone, network)
    assert_same_logits(source, judge)  # the mean of the classes
    assert report.new == ("generator mapping.embed.bias: labels join z without a bias",)
    z_BZ, label_BL = torch.randn(2, 8), torch.eye(3)[:2]
    h = torch.cat([z_BZ, label_BL @ torch.tensor(label_LZ)], 1)
    h = h / (h.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(3):
        weight, bias = (torch.tensor(tables["mapping"][f"Dense{i}/{part}"]) for part in ("weight", "bias"))
        h = F.leaky_relu(h @ weight * 0.01 / len(weight) ** 0.5 + 0.01 * bias, 0.2) * 2**0.5
    torch.testing.assert_close(source.backbone.mapping(torch.cat([z_BZ, label_BL], 1)), h)


def test_a_first_stylegans_tensorflow_pickle_draws_what_it_drew(tmp_path):
    network = stirred("backbone", "stylegan1", resolution=16, channels=[6, 5, 4], z_dim=8, mapping_layers=2)
    for block in network.blocks[1:]:
        block.conv1.bias.zero_()  # TensorFlow adds it after the blur
    tables = envelopes_tf.tf_stylegan1(network.state_dict())
    report, source = imported(tmp_path, envelopes_tf.tensorflow((tables,), version=3))
    assert_same_images(source.backbone, network)
    assert any(note.startswith("biases come after the blur in TensorFlow") for note in report.notes)


def test_an_unknown_class_in_the_wanted_network_is_named_and_elsewhere_left_out(tmp_path):
    network = stirred("backbone", "stylegan2", **SMALL)
    state = network.state_dict()
    with envelopes.pretended("somebody.fork.Attention") as (attention,):
        (tmp_path / "file.pkl").write_bytes(
            envelopes.nvidia({"G_ema": state}, {"synthesis.b8": {"_modules": {"att": envelopes.Made(attention, 3)}}})
        )
    with pytest.raises(UserError, match=r"makes G_ema/synthesis\.b8\.att by somebody\.fork\.Attention, which is not"):
        import_checkpoint(tmp_path / "file.pkl", tmp_path / "refused")
    with envelopes.pretended("somebody.fork.Attention") as (attention,):
        said = attributes_of({}, state)
        data = envelopes.nvidia({"G_ema": state}, said | {"": {"logger": envelopes.Made(attention, 3), "c_dim": 0}})
    report, source = imported(tmp_path, data)
    assert_same_images(source.backbone, network)
    assert "left out unread, for their classes are not known: somebody.fork.Attention" in report.notes


def test_a_generator_of_stylegan_xl_is_read_without_its_embedding_and_its_strange_discriminator(tmp_path):
    network = stirred("backbone", "stylegan3", resolution=16, channel_max=6, z_dim=7, w_dim=8)
    said = envelopes.stylegan3_attributes(stylegan3_plan.tables(16, "t", 32768, 6))
    said |= {"": {"c_dim": 0}, "mapping": {"more": {"embed": torch.nn.Embedding(5, 4)}}}
    with envelopes.pretended("pg_modules.discriminator.ProjectedDiscriminator") as (projected,):
        judge = {"feature_network.weight": torch.ones(2)}
        strange = said | {"feature_network": {"more": {"timm": envelopes.Made(projected, 3)}}}
        state = dict(network.state_dict())
        data = envelopes.nvidia({"G_ema": state, "D": judge}, strange)
    report, source = imported(tmp_path, data)
    assert_same_images(source.backbone, network)
    assert source.discriminator is None
    reasons = {left.theirs: left.reason for left in report.left_out}
    assert reasons["G_ema/mapping.embed.weight"] == "embeds labels, and the network has none"
    assert any("pg_modules.discriminator.ProjectedDiscriminator" in note for note in report.notes)
