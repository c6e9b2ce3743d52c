"""The discriminator on features against a reference of its own; files are code, and the judge's are refused."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
import torch.nn.functional as fn

from hmgan.discriminators.projected import ProjectedDiscriminator
from hmgan.errors import UserError
from hmgan.metrics.features import load_squeezenet
from hmgan.train.prepare import prepare


class Borrowed(torch.nn.Module):
    """A network with a layer of the embedded extractor's in it."""

    def __init__(self) -> None:
        super().__init__()
        weight = next(w for w in load_squeezenet().trunk.state_dict().values() if w.ndim == 4 and w.shape[1] == 3)
        self.weight = torch.nn.Parameter(weight.contiguous())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(images, self.weight, None, [2, 2], [1, 1])


def options(*words):
    return dict(word.split("=", 1) for word in words)


def chosen(words):
    return ["discriminator.name=projected", "discriminator.resolution=8", "task.freeze=[]"] + [
        f"discriminator.{word}" for word in words
    ]


@pytest.fixture
def script(tmp_path):
    return tiny.write_script(tmp_path / "maps.pt")


def test_each_map_is_mixed_convolved_and_averaged_and_the_head_sees_them_all(script):
    network = ProjectedDiscriminator(3, **options(*script), resolution=8, width=5).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.manual_seed(2)
    maps = tiny.Maps().double()(images)
    wanted = []
    for branch, h in zip(network.branches, maps, strict=True):
        h = torch.einsum("kc,bchw->bkhw", branch.mixture[:, :, 0, 0], h)
        convs = list(branch.convs)
        for i, conv in enumerate(convs):
            sigma = torch.linalg.matrix_norm(conv.weight.flatten(1), 2)
            h = fn.leaky_relu(fn.conv2d(h, conv.weight / sigma, conv.bias, padding=1), 0.2)
            if i < len(convs) - 1:
                h = (h[..., ::2, ::2] + h[..., 1::2, ::2] + h[..., ::2, 1::2] + h[..., 1::2, 1::2]) / 4
        wanted.append(h.mean((2, 3)))
    assert [len(branch.convs) for branch in network.branches] == [2, 1]  # from 8 px to 4, and at 4
    out = network(images, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(out.embedding, torch.cat(wanted, 1), rtol=1e-3, atol=1e-5)


def test_the_features_neither_train_nor_lie_in_its_state(script):
    network = ProjectedDiscriminator(3, **options(*script), resolution=8)
    assert not any(name.startswith("features") for name in network.state_dict())
    assert not any(name.startswith("features") for name, _ in network.named_parameters())
    assert not any(p.requires_grad for p in network.features.network.parameters())


def test_a_training_with_hinge_and_augmentation_moves_the_branches_and_is_resumed(shards, source, script, tmp_path):
    settings = (*chosen(script), "adversarial=hinge", "r1.every=0", "augment=diffaugment")
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *settings), tmp_path)
    batches = trainer.batches()
    trainer.take_step(next(batches))
    trainer.step = 1
    with trainer.saver:
        trainer.save()
    trainer.take_step(next(batches))
    again = tiny.make_trainer(tiny.transfer(shards, source, *settings), tmp_path)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    again.resume(folder)
    again.take_step(next(again.batches()))
    for name, value in trainer.task.discriminator.state_dict().items():
        assert torch.equal(again.task.discriminator.state_dict()[name], value)


def test_it_says_that_it_needs_a_file_and_its_hash(shards, source, script):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *chosen(script[:1])))
    assert str(caught.value) == "feature-net torchscript is a file: path and sha256 are missing; name both"


def test_another_file_than_the_hash_says_is_not_run(shards, source, script, tmp_path):
    with pytest.raises(UserError, match=r"maps\.pt hashes to .*; it was not loaded, for a TorchScript file is code"):
        prepare(tiny.transfer(shards, source, *chosen([script[0], f"sha256={'0' * 64}"])))


def test_a_file_that_makes_no_maps_is_refused(shards, source, tmp_path):
    words = tiny.write_script(tmp_path / "flat.pt", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)))
    with pytest.raises(UserError, match=r"^feature-net torchscript gives no maps \[B, C, h, w\]; take another file$"):
        prepare(tiny.transfer(shards, source, *chosen(words)))


def test_the_judges_weights_are_refused(shards, source, tmp_path):
    words = tiny.write_script(tmp_path / "borrowed.pt", Borrowed())
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *chosen(words)))
    assert str(caught.value) == (
        "discriminator sees through extractor 'squeezenet', which scores judge by; take other features"
    )


def test_the_judges_file_is_refused_by_its_hash(shards, source, script, tmp_path, monkeypatch):
    from hmgan.config import entries

    (tmp_path / "registry" / "extractors").mkdir(parents=True)
    sha256 = script[1].partition("=")[2]
    text = f"path = {json.dumps(str(tmp_path / 'maps.pt'))}\nsha256 = '{sha256}'\ndim = 4\n"
    (tmp_path / "registry" / "extractors" / "mine.toml").write_text(text)
    monkeypatch.setattr(entries, "_extra", [tmp_path / "registry"])
    with pytest.raises(UserError, match=r"^discriminator sees through extractor 'mine', which scores judge by; "):
        prepare(tiny.transfer(shards, source, *chosen(script)))
