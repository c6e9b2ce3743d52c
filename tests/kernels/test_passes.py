"""Networks and whole steps by kernels, by Triton's interpreter, against those by layers."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.backbones.stylegan1 import Block
from hmgan.config.settings import Compute
from hmgan.discriminators.stylegan1 import DownBlock, StyleGAN1Discriminator
from hmgan.layers.edits import SOURCE, AdaFM, Edits, LiveAdaFM
from hmgan.layers.passes import BY_LAYERS, Passing
from hmgan.modulation.joined import RowsOfWeights
from hmgan.train import precision

passes = pytest.importorskip("hmgan.kernels.passes", exc_type=ImportError)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def adafm(conv, rows, kind):
    """An edit of every row."""
    outputs, inputs, *taps = conv.weight.shape
    tables = [torch.randn(rows, *shape) for shape in ((outputs, inputs), (outputs, inputs), (outputs,))]
    tables = [x.to(conv.weight).requires_grad_() for x in tables]
    if kind == "live":
        return LiveAdaFM(1e-5, *tables), tables
    normal = torch.randn(outputs, inputs, *taps).to(conv.weight)
    if kind == "by rows":
        return RowsOfWeights([AdaFM(normal, *(x[r, None] for x in tables)) for r in range(rows)]), tables
    return AdaFM(normal, *tables), tables


def images_and_gradients(kind, up, way, dtype, autocast=False):
    """Of a block that doubles its resolution, under edits of three classes, one of which is not in the batch."""
    torch.manual_seed(0)
    block = Block("b", 3, 4, 5, up, fused_first=kind == "fused first")
    for noise in (block.noise1, block.noise2):
        torch.nn.init.normal_(noise.weight)
    for conv in (block.conv1, block.conv2):
        torch.nn.init.normal_(conv.bias)
    block.passes = way
    block = block.to(DEVICE, dtype)
    x, w_BW, noise_B1HW = (torch.randn(*shape).to(DEVICE, dtype) for shape in ((3, 3, 3, 3), (3, 5), (3, 1, 6, 6)))
    x.requires_grad_()
    edits, tables = SOURCE, []
    if kind != "source":
        made = {conv.name: adafm(conv, 3, kind) for conv in (block.conv1, block.conv2)}
        edits = Edits({name: edit for name, (edit, _) in made.items()}, rows=3, counts=(1, 0, 2))
        tables = [x for _, found in made.values() for x in found]
    with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        out = block(x, w_BW, noise_B1HW, edits)
    waves = torch.arange(out.numel()).view(out.shape).to(DEVICE, torch.float64).sin().to(dtype)
    trained = [p for p in block.parameters() if p.requires_grad]
    grads = torch.autograd.grad((out.to(dtype).square() * waves).sum(), [x, *tables, *trained], allow_unused=True)
    return [out.detach(), *(grad for grad in grads if grad is not None)]


def assert_near_float64(kind, up):
    got = images_and_gradients(kind, up, passes.BY_KERNELS, torch.float32)
    wanted = images_and_gradients(kind, up, BY_LAYERS, torch.float64)
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    scale = max(float(y.norm()) for y in wanted)  # of some, the bias before a norm, the gradient nearly vanishes
    errors = [float((x - y).norm() / (y.norm() + 1e-3 * scale)) for x, y in zip(got, wanted, strict=True)]
    assert max(errors) < 1e-4, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "up"),
    [("source", 1.0), ("adafm", 1.0), ("adafm", 0.25), ("live", 0.25), ("by rows", 0.25), ("fused first", 0.25)],
)
def test_a_block_of_g_by_kernels_is_that_by_layers_under_every_kind_of_edit(kind, up):
    assert_near_float64(kind, up)


def test_kernels_join_where_they_can_run(monkeypatch):
    monkeypatch.setattr(precision, "lacking", lambda _: "")
    block = Block("b", 3, 4, 5, up=1.0)
    joined = precision.join_passes(Compute(kernels="auto"), torch.device("cpu"), block)
    assert joined == (True, "Triton's kernels")
    assert block.passes is passes.BY_KERNELS


def test_convolutions_are_called_as_modules_for_an_engine_that_makes_them_whole_then(monkeypatch):
    """FSDP2 gathers a layer's weights when it is called."""
    monkeypatch.setattr(passes, "finished", lambda v, *_: v[..., :6, :6])
    block = Block("b", 3, 4, 5, up=1.0)
    block.passes = passes.BY_KERNELS
    called = []
    for conv in (block.conv1, block.conv2):
        conv.register_forward_pre_hook(lambda conv, _: called.append(conv))
    block(torch.randn(1, 3, 3, 3), torch.randn(1, 5), torch.randn(1, 1, 6, 6), SOURCE)
    assert called == [block.conv1, block.conv2]


@pytest.mark.slow
def test_a_block_in_bf16_is_as_near_to_float32_by_kernels_as_by_layers():
    exact = images_and_gradients("adafm", 1.0, BY_LAYERS, torch.float32)
    errors = []
    for way in (passes.BY_KERNELS, BY_LAYERS):
        found = images_and_gradients("adafm", 1.0, way, torch.float32, autocast=True)
        assert found[0].dtype == torch.bfloat16
        errors.append(sum(float((x - y).norm() / y.norm()) for x, y in zip(found, exact, strict=True)))
    assert errors[0] < 2 * errors[1]  # the interpreter cuts bits off


@pytest.mark.slow
def test_a_step_of_both_networks_by_kernels_is_that_by_layers(shards, source, tmp_path, monkeypatch):
    """D's passes and R1's double backward, and G's gradient through both, by its heads."""
    monkeypatch.setattr(precision, "lacking", lambda _: "")
    found = []
    for kernels in ("torch", "auto"):
        trainer = tiny.make_trainer(tiny.transfer(shards, source, f"compute.kernels={kernels}"), tmp_path / kernels)
        networks = trainer.task.generator, trainer.task.discriminator
        parts = [m for network in networks for m in network.modules() if isinstance(m, Passing)]
        assert {type(part) for part in parts} == {Block, DownBlock, StyleGAN1Discriminator}
        assert all((part.passes is BY_LAYERS) == (kernels == "torch") for part in parts)
        gradients, average = [], trainer.runtime.average_gradients

        def look(network, loss, gradients=gradients, average=average):
            norm = average(network, loss)
            gradients += [p.grad.flatten().clone() for p in network.parameters() if p.grad is not None]
            return norm

        trainer.runtime.average_gradients = look
        stats = trainer.take_step(next(trainer.batches()))
        found.append((torch.cat(gradients), {k: float(v.detach()) for k, v in stats.items()}))
    (wanted, wanted_stats), (got, stats) = found
    assert float((got - wanted).norm() / wanted.norm()) < 1e-4
    assert stats == pytest.approx(wanted_stats, rel=1e-4)
