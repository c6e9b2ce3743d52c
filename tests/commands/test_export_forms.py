"""`hmgan export`: half precision, ONNX, and what the card tells a hub."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from test_export import trained

import hmgan


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("forms") / "run", "evaluation.per_class=4")


def test_half_precision_halves_the_file_and_draws_nearly_the_same(run, tmp_path):
    for name, words in (("full", []), ("half", ["--fp16"])):
        assert tiny.command("export", run, tmp_path / name, *words) == 0
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")}
    assert sizes["half"] < 0.6 * sizes["full"]
    assert {str(x.dtype) for x in load_file(tmp_path / "half" / "model.safetensors").values()} == {"torch.float16"}
    full, half = (hmgan.load(tmp_path / name).sample(range(4), "bee") for name in ("full", "half"))
    assert np.abs(full.astype(int) - half).mean() < 2


def test_an_onnx_file_draws_the_class_at_any_batch_and_truncation(run, tmp_path):
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    pytest.importorskip("onnxscript")
    assert tiny.command("export", run, tmp_path / "bee", "--class", "bee", "--onnx") == 0
    path = tmp_path / "bee" / "model.onnx"
    assert next((each.domain, each.version) for each in onnx.load(path).opset_import) == ("", 18)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    backbone = hmgan.load(tmp_path / "bee").generator.backbone
    z_NZ = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    import torch

    from hmgan.generators.onnx import Drawer

    for count, psi in ((1, 1.0), (5, 0.6)):
        (got,) = session.run(None, {"z": z_NZ[:count], "truncation": np.float32([psi])})
        with torch.no_grad():
            latents = backbone.latents([0] * count)._replace(z=torch.from_numpy(z_NZ[:count]))
            wanted = backbone(latents, truncation=psi).image.numpy()
            assert Drawer(backbone)(latents.z, torch.tensor([psi])).shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-4 * wanted.std()


def test_an_onnx_file_of_all_classes_is_refused(run, tmp_path, capsys):
    assert tiny.command("export", run, tmp_path / "out", "--onnx") == 2
    assert "an ONNX file draws one class; name it with --class" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_card_has_what_hubs_index_and_no_folder_of_this_machine(run, shards, source, tmp_path):
    assert tiny.command("export", run, tmp_path / "out") == 0
    text = (tmp_path / "out" / "README.md").read_text()
    front = ModelCard(text).data.to_dict()
    assert front["base_model"] == source.name
    assert front["datasets"] == [shards.name]
    assert front["pipeline_tag"] == "unconditional-image-generation"
    results = ModelCard(text).data.eval_results
    assert {result.metric_name for result in results} >= {"FD-squeezenet of ant", "FD-squeezenet of mean"}
    assert results[0].metric_args["extractor"] == "squeezenet"
    assert results[0].metric_args["fake"] == 4
    assert str(tmp_path.parent) not in text
    assert str(shards.parent) not in text
