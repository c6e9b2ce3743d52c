"""D's trunk and G's synthesis apart from the rest are the whole, when each use writes to the memory of the one before.

A stand-in does on the CPU what `torch.cuda.make_graphed_callables` does; tests/gpu has the graphs themselves.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import tiny
import torch
from golden_runs import float64

from hmgan.errors import UserError
from hmgan.train import precision
from hmgan.train.graphs import captured
from hmgan.train.prepare import prepare

MERGED = ("compute.merge=true", "task.freeze=[]", "task.mixing=0.5", "r1.every=2")
VIEWS = ("contrastive=barlow-twins",)
FEW = ("loader.stratified=true",)
GRAPHS = "compute.graphs=true"


class StandIn:
    """As `make_graphed_callables`: inputs are copied to where the samples lie, and results lie where they did before.

    So do gradients. The activations are those of the last use, and so a backward of an earlier one fails.
    """

    def __init__(self):
        self.uses = []  # of each function, how often it ran

    def __call__(self, run, samples, num_warmup_iters=3, allow_unused_input=False, pool=None):
        assert not (torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled())
        assert torch.is_grad_enabled()
        use, number = {}, len(self.uses)
        self.uses.append(0)
        wanted = [x for x in samples if x.requires_grad]
        result = run(*samples).detach().clone()
        gradients = [torch.zeros_like(x) for x in wanted]
        uses = self.uses

        class Graphed(torch.autograd.Function):
            @staticmethod
            def forward(ctx, *inputs):
                for sample, given in zip(samples, inputs, strict=True):
                    if sample.data_ptr() != given.data_ptr():
                        sample.copy_(given)
                with torch.enable_grad():
                    use["last"] = run(*samples)
                uses[number] += 1
                return result.copy_(use["last"]).detach()

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, grad):
                found = torch.autograd.grad(use["last"], wanted, grad, allow_unused=allow_unused_input)
                pairs = zip(gradients, found, strict=True)
                kept = iter([None if new is None else old.copy_(new).detach() for old, new in pairs])
                return tuple(next(kept) if x.requires_grad else None for x in samples)

        return Graphed.apply


@pytest.fixture
def graphing(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setattr(precision, "check_graphs", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", stand_in)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return stand_in


def three_steps(experiment, folder):
    """All that has trained, of steps with R1 and without; the trainer."""
    with float64():
        trainer = tiny.make_trainer(experiment, folder)
        batches = trainer.batches()
        for trainer.step in range(3):
            trainer.take_step(next(batches))
    parts = (trainer.task.critic, trainer.task.generator)
    return torch.cat([p.detach().flatten() for part in parts for p in part.parameters() if p.requires_grad]), trainer


def assert_alike(make, folder):
    (wanted, _), (got, trainer) = three_steps(make(), folder), three_steps(make(GRAPHS), folder)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    return trainer


@pytest.mark.parametrize(
    ("chosen", "uses"),
    [
        (VIEWS, [1, 3]),
        ((*VIEWS, "train.batch=8", "train.accumulate=2"), [4, 6]),  # rows are cached first in D's phase
        (("adversarial=dual-contrastive", "disc_head=projection"), [1, 3]),  # G's phase has a pass over reals, too
        (("augment=diffaugment", "modulation=adain"), [1, 3]),
        ((*VIEWS, *FEW), [1, 3, 5]),  # G's from its first backward on
        ((*VIEWS, *FEW, "train.batch=8", "train.accumulate=2"), [4, 6, 8, 1, 1]),  # of three kinds of microbatches
        ((*FEW, "modulation=adain"), [1, 3]),
    ],
)
def test_steps_in_graphs_are_the_steps(chosen, uses, graphing, shards, source, tmp_path):
    """D's phase has a graph in the one step without R1, and G's in all three."""
    assert_alike(lambda *more: tiny.transfer(shards, source, *MERGED, *chosen, *more), tmp_path)
    assert graphing.uses == uses


def test_a_source_that_trains_has_its_gradients(graphing, shards, source, tmp_path):
    chosen = (*MERGED, *FEW, "train.source=['blocks.1.*', 'mapping.*']", "modulation.live=true")
    trainer = assert_alike(lambda *more: tiny.transfer(shards, source, *chosen, *more), tmp_path)
    assert len(graphing.uses) == 3
    assert len(trainer.task._draw._trained) > 4


def test_a_pretraining_has_graphs_of_d_alone(graphing, shards, tmp_path):
    assert_alike(lambda *more: tiny.pretraining(shards, "compute.merge=true", "r1.every=2", *more), tmp_path)
    assert graphing.uses == [1, 3]


def test_of_many_counts_only_the_first_few_have_graphs(graphing, shards, source, tmp_path):
    with float64():
        trainer = tiny.make_trainer(tiny.transfer(shards, source, *MERGED, *FEW, GRAPHS, "train.batch=8"), tmp_path)
        draw, generator = trainer.task._draw, trainer.task.generator
        latents = generator.latents(list(range(8)))
        for few in ([1, 7], [2, 6], [3, 5], [4, 4], [8], [1, 1, 6], [1, 7]):
            labels = torch.arange(len(few)).repeat_interleave(torch.tensor(few))
            torch.testing.assert_close(draw(latents, labels).image, generator(latents, labels).image)
    assert graphing.uses == [0, 0, 2, 1, 1, 1]


def test_a_graphs_results_and_gradients_outlive_its_next_use(graphing):
    x, w = torch.zeros(2), torch.ones(2, requires_grad=True)
    double = captured(lambda x, w: 2 * x * w, (x, w), nullcontext)
    first = double(torch.tensor([1.0, 2.0]), w)
    first.sum().backward()
    kept = w.grad
    w.grad = None
    double(torch.tensor([3.0, 4.0]), w).sum().backward()
    assert first.tolist() == [2, 4]
    assert (kept.tolist(), w.grad.tolist()) == ([2, 4], [6, 8])


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ((GRAPHS, "compute.merge=true"), "compute.graphs needs a CUDA device, got cpu; leave it out"),
        ((GRAPHS,), "graphs needs D's phase in one pass, got merge = false; add merge = true"),
    ],
)
def test_what_cannot_have_graphs_says_so(chosen, said, shards, source):
    with pytest.raises(UserError, match=said):
        prepare(tiny.transfer(shards, source, *chosen))


@pytest.mark.parametrize(
    ("name", "chosen", "said"),
    [
        ("hyper-mod-b", ("compute.engine=fsdp2",), "engine fsdp2 has no place of its own for weights"),
        ("cdc", (), "players change what trains; leave graphs out"),
    ],
)
def test_what_moves_or_changes_cannot_have_graphs(name, chosen, said, graphing, shards, source):
    with pytest.raises(UserError, match=said):
        prepare(tiny.transfer(shards, source, "compute.merge=true", GRAPHS, *chosen, name=name))
