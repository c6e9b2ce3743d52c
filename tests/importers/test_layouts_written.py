"""`hmgan export --layout` and `--onnx` of StyleGAN2 and 3: what other code loads draws the class."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

import hmgan
from hmgan import components
from hmgan.config.settings import Choice
from hmgan.generators.onnx import save_onnx
from hmgan.generators.snapshot import save_conditional
from hmgan.generators.transfer import TransferGenerator

from . import envelopes

RESIDUAL = {**envelopes.SMALL, "architecture": "resnet", "clamp": 256.0}
SMALL3 = {"resolution": 8, "channel_max": 4, "depth": 4, "z_dim": 8, "w_dim": 8}


def transfer(folder, name, **options):
    """A StyleGAN under heads that are not 0, on disk."""
    backbone = envelopes.stirred("backbone", name, **options)
    class_net = components.build("class-net", "embedding", 2, dim=4)
    modulation = components.build("modulation", "adafm", backbone, 4)
    with torch.no_grad():
        for parameter in modulation.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    parts = {"backbone": Choice(name=name, **options), "class_net": Choice(name="embedding", dim=4)}
    parts["modulation"] = Choice(name="adafm")
    save_conditional(folder, TransferGenerator(backbone, class_net, modulation), parts, ("ant", "bee"), {})
    return folder


def drawn(folder, cls=0):
    """[4, 3, H, W] under the constant noise."""
    model = hmgan.load(folder)
    return model(torch.randn(4, model.z_dim, generator=torch.Generator().manual_seed(0)), [cls] * 4)


def test_a_folded_class_goes_to_the_port_and_back(tmp_path):
    model = transfer(tmp_path / "two", "stylegan2", **envelopes.SMALL)
    assert tiny.command("export", model, tmp_path / "bee", "--class", "bee", "--layout", "rosinality") == 0
    state = torch.load(tmp_path / "bee" / "rosinality.pt", weights_only=True)
    assert set(state) == {"g_ema", "latent_avg"}
    reference = envelopes.rosinality_generator(load_file(tmp_path / "bee" / "model.safetensors"))
    assert {name: x.shape for name, x in state["g_ema"].items()} == {name: x.shape for name, x in reference.items()}
    assert float(state["g_ema"]["to_rgbs.0.upsample.kernel"].sum()) == pytest.approx(4)
    assert tiny.command("import", tmp_path / "bee" / "rosinality.pt", tmp_path / "back") == 0
    assert torch.equal(drawn(tmp_path / "back"), drawn(tmp_path / "bee"))
    torch.testing.assert_close(drawn(tmp_path / "back"), drawn(model, "bee"), rtol=1e-4, atol=1e-4)
    assert "g.load_state_dict(torch.load('rosinality.pt'" in (tmp_path / "bee" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "options"),
    [("stylegan2", {**envelopes.SMALL, "architecture": "resnet", "clamp": 256.0}), ("stylegan3", SMALL3)],
)
def test_a_folded_class_under_the_releases_names_is_what_its_pickle_would_hold(tmp_path, name, options):
    model = transfer(tmp_path / "two", name, **options)
    assert tiny.command("export", model, tmp_path / "bee", "--class", "bee", "--layout", "ada") == 0
    state = load_file(tmp_path / "bee" / "ada.safetensors")
    if name == "stylegan3":
        assert state.keys() == hmgan.load(tmp_path / "bee").generator.backbone.state_dict().keys()
        return
    filters = {key for key in state if key.endswith("resample_filter")}
    layers = {f"synthesis.b{r}.{each}" for r in (8, 16) for each in ("conv0", "conv1", "skip")}
    blocks = {f"synthesis.b{r}" for r in (4, 8, 16)}
    assert filters == {f"{each}.resample_filter" for each in {*layers, *blocks, "synthesis.b4.conv1"}}
    clamps = {key.rpartition(".")[0]: {"conv_clamp": 256} for key in state if ".conv" in key or ".torgb" in key}
    pickled = envelopes.nvidia({"G_ema": state}, {"G_ema": {k: v for k, v in clamps.items() if "affine" not in k}})
    (tmp_path / "bee.pkl").write_bytes(pickled)
    assert tiny.command("import", tmp_path / "bee.pkl", tmp_path / "back") == 0
    assert torch.equal(drawn(tmp_path / "back"), drawn(tmp_path / "bee"))
    card = (tmp_path / "bee" / "README.md").read_text()
    assert "G.load_state_dict(safetensors.torch.load_file('ada.safetensors'))" in card


def test_what_the_port_cannot_draw_or_hold_is_refused_and_leaves_nothing(tmp_path, capsys):
    clamping = transfer(tmp_path / "clamping", "stylegan2", **envelopes.SMALL, clamp=0.5)
    residual = transfer(tmp_path / "residual", "stylegan2", **envelopes.SMALL, architecture="resnet")
    for model, words, text in (
        (clamping, ["--class", "bee"], "the port, which never clamps, draws other images"),
        (residual, ["--class", "bee"], "the port has no place for another architecture; use --layout ada"),
        (residual, [], "--layout rosinality is of one class; name it with --class"),
    ):
        capsys.readouterr()
        assert tiny.command("export", model, tmp_path / "out", *words, "--layout", "rosinality") == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stylegan2", envelopes.SMALL),
        ("stylegan2", RESIDUAL),
        ("stylegan3", SMALL3),
        ("stylegan3", {**SMALL3, "kind": "r"}),
    ],
)
def test_onnx_draws_what_torch_draws_at_any_batch(tmp_path, name, options):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    import onnxruntime

    backbone = envelopes.stirred("backbone", name, **options)
    assert save_onnx(backbone, tmp_path / "model.onnx") < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    z_NZ = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    (got,) = session.run(None, {"z": z_NZ, "truncation": np.float32([0.6])})
    with torch.no_grad():
        latents = backbone.latents([0] * 5)._replace(z=torch.from_numpy(z_NZ))
        wanted = backbone(latents, truncation=0.6).image.numpy()
    assert np.abs(got - wanted).max() < 1e-4 * wanted.std()
