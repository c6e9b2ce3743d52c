"""compute.compile changes nothing beyond rounding. Fast tests trace and differentiate as the real backend does, and
then run the operations one by one; the slow one builds kernels."""

from __future__ import annotations

import statistics

import pytest
import tiny
import torch
from torch import nn

from hmgan import components
from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.layers.equalized import Blur, by_convolution, by_shifts
from hmgan.train.precision import compile_parts, uncompiled

# Those that edit any StyleGAN: no old classes, no training from scratch, no classes added later.
MODULATIONS = [m for m in entries.known("modulation") if m not in ("cgan-transfer", "label-to-z", "joined")]
pytestmark = pytest.mark.filterwarnings("default")  # the compiler's own code looks at what warns when it is looked at
BATCHES = ([0, 0, 1, 2], [1, 1, 1, 1], [0, 2, 2, 2])  # classes as they come, in any number


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def generator_of(modulation, seed=0):
    torch.manual_seed(seed)
    source = components.build("backbone", "stylegan1", **tiny.BACKBONE)
    class_net = components.build("class-net", "mlp", 3)
    generator = TransferGenerator(source, class_net, components.build("modulation", modulation, source, class_net.dim))
    for parameter in generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return generator


def passes(generator, mixed=False):
    """Images and gradients of three batches, with and without a graph."""
    found = []
    parameters = list(generator.trained.parameters())
    for labels in BATCHES:
        latents = generator.latents(range(len(labels)), 0.9)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            image = generator(latents, torch.tensor(labels)).image
            with torch.no_grad():
                found.append(generator(latents, torch.tensor(labels)).image)
        # Against fixed noise: the sum of an image's squares hardly depends on what is before a norm.
        weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
        found += [image.detach(), *torch.autograd.grad((image * weight).sum(), parameters, materialize_grads=True)]
    return found


def errors(got, wanted):
    assert [x.dtype for x in got] == [x.dtype for x in wanted]
    return [float((a - b).detach().norm() / (b.detach().norm() + 1e-5)) for a, b in zip(got, wanted, strict=True)]


@pytest.mark.parametrize("modulation", ["adafm", pytest.param("adain", marks=pytest.mark.slow)])
def test_traced_and_differentiated_ahead_of_time_it_is_the_same(modulation):
    generator = generator_of(modulation)
    wanted = passes(generator)
    compile_parts(generator, nn.Identity(), backend="aot_eager")
    assert max(errors(passes(generator), wanted)) < 1e-5


def test_one_graph_serves_all_blocks_and_batches():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    generator = generator_of("adafm")
    compile_parts(generator, nn.Identity(), backend=count)
    passes(generator)
    # With and without gradients, the constant, and a size that is 1; not one per block, of which the paper has seven.
    built = len(graphs)
    assert 2 <= built <= 8
    with uncompiled():
        passes(generator)
    assert len(graphs) == built


def test_a_blur_by_shifts_has_the_derivatives_of_a_blur_by_convolution():
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for way in (by_convolution, by_shifts, torch.compile(by_shifts, dynamic=True, backend="aot_eager")):
        blur, y = Blur().double(), x.clone().requires_grad_()
        blur.way = way
        out = blur(y)
        (first,) = torch.autograd.grad(out.pow(3).sum(), y, create_graph=True)
        found.append((out, first, *torch.autograd.grad(first.square().sum(), y)))
    for other in found[1:]:
        assert max(errors(other, found[0])) < 1e-12


@pytest.mark.slow
def test_kernels_that_are_built_give_the_same():
    for modulation in MODULATIONS:  # in one test: they share what is built
        generator = generator_of(modulation)
        exact = passes(generator)
        compile_parts(generator, nn.Identity())
        assert max(errors(passes(generator), exact)) < 1e-4


@pytest.mark.slow
def test_kernels_that_are_built_are_as_near_to_float32_in_bf16_on_average():
    """One draw of 8-channel networks says little: either way of rounding is several times luckier in some."""
    ratios = []
    for modulation in ("adafm", "adafm-low-rank", "adain"):
        for draw in range(8):
            generator = generator_of(modulation, draw)
            exact, rounded = passes(generator), passes(generator, mixed=True)
            compile_parts(generator, nn.Identity())
            compiled = passes(generator, mixed=True)
            ratios.append(sum(errors(compiled, exact)) / sum(errors(rounded, exact)))
    print(f"{min(ratios):.2f} to {max(ratios):.2f}, mean {statistics.geometric_mean(ratios):.2f}")
    assert statistics.geometric_mean(ratios) < 1.3


def test_a_training_with_compiled_parts_is_the_same(shards, source, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_parts, "__defaults__", ("aot_eager",))
    states = []
    for compiled in ("false", "true"):
        trainer = tiny.make_trainer(tiny.transfer(shards, source, f"compute.compile={compiled}"), tmp_path / compiled)
        trainer.take_step(next(trainer.batches()))
        trainer._snapshot()
        states.append({**trainer.task.generator.state_dict(), **trainer.task.ema.state_dict()})
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", ["gan-memory-resnet", "biggan"])
def test_a_backbone_with_nothing_to_compile_says_so(backbone):
    with pytest.raises(
        UserError, match=r"^compute.compile has nothing to compile in these networks, .*; leave it out$"
    ):
        compile_parts(
            UnconditionalGenerator(components.build("backbone", backbone, **tiny.BACKBONES[backbone])), nn.Identity()
        )
