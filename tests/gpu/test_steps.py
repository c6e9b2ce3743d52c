"""What only a CUDA device can show of merged passes, graphs, and draws ahead: three steps with them and without."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.layers.float32 import products

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # what a driver warns of is not ours
]
STEPS = ("contrastive=barlow-twins", "task.freeze=[]", "task.mixing=0.5", "r1.every=2", "loader.stratified=true")
MERGE, GRAPHS, AHEAD = "compute.merge=true", "compute.graphs=true", "compute.ahead=true"


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with products(tf32=False):
        yield


def three_steps(experiment, folder):
    """D's and G's gradient in each of three steps, R1 in two of them, which all begin with the first one's weights."""
    trainer, gradients = tiny.make_trainer(experiment, folder), []
    networks = {"D": trainer.task.critic, "G": trainer.task.generator.trained}
    first = {name: {k: v.clone() for k, v in each.state_dict().items()} for name, each in networks.items()}
    average, batches = trainer.runtime.average_gradients, trainer.batches()

    def look(network, loss):
        norm = average(network, loss)
        grads = [p.grad.detach().flatten() for p in network.parameters() if p.grad is not None]
        gradients.append(torch.cat(grads).double())
        return norm

    trainer.runtime.average_gradients = look
    for trainer.step in range(3):
        for name, each in networks.items():
            each.load_state_dict(first[name])
        trainer.take_step(next(batches))
    assert all(bool(grad.isfinite().all()) and float(grad.norm()) > 0 for grad in gradients)
    return gradients


def errors(got, wanted):
    assert len(got) == len(wanted) == 6
    found = [float((a - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True)]
    print(found)
    return found


@pytest.mark.parametrize("parts", [(), ("train.batch=8", "train.accumulate=2")], ids=["whole", "microbatches"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_three_steps_in_graphs_are_three_steps(precision, parts, source, shards, tmp_path):
    """The same kernels on the same numbers, but for the order of classes in G's batch."""
    chosen = (*STEPS, *parts, MERGE, f"compute.precision={precision}")
    wanted = three_steps(tiny.transfer(shards, source, *chosen), tmp_path)
    got = three_steps(tiny.transfer(shards, source, *chosen, GRAPHS), tmp_path)
    assert max(errors(got, wanted)) < (1e-3 if precision == "float32" else 0.05)


def test_three_steps_in_merged_passes_are_three_steps(source, shards, tmp_path):
    wanted = three_steps(tiny.transfer(shards, source, *STEPS), tmp_path)
    assert max(errors(three_steps(tiny.transfer(shards, source, *STEPS, MERGE), tmp_path), wanted)) < 1e-3


@pytest.mark.parametrize("graphs", [(), (MERGE, GRAPHS)], ids=["eager", "graphs"])
def test_three_steps_drawn_ahead_are_three_steps(graphs, source, shards, tmp_path):
    wanted = three_steps(tiny.transfer(shards, source, *STEPS, *graphs), tmp_path)
    got = three_steps(tiny.transfer(shards, source, *STEPS, *graphs, AHEAD), tmp_path)
    assert max(errors(got, wanted)) < 1e-6


def test_graphs_keep_no_more_memory_from_step_to_step(source, shards, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *STEPS, MERGE, GRAPHS, AHEAD), tmp_path)
    batches, held = trainer.batches(), []
    for trainer.step in range(24):
        trainer.take_step(next(batches))
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    print(held)
    assert max(held[8::2]) <= max(held[2:8:2]) + 2**16
