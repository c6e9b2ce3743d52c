"""No phase reads a value of the device back: what it computes there is fake, and has none."""

from __future__ import annotations

from itertools import product

import pytest
import tiny
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from hmgan import host
from hmgan.config import entries
from hmgan.train.tasks.alignment import aligning
from hmgan.train.tasks.gan import Gan

# torch hides it, but not where warnings are errors
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
TASKS = {
    "hyper-mod-c": ("disc_head=projection", "loader.mirror=true"),
    "hyper-mod-b": ("augment=diffaugment", "disc_head=auxiliary-classifier", "regularizer=lecam"),
    "adain": ("augment=ada",),
    "hyper-mod-c-align": (),
    "hyper-mod-ft": (),
}

BASELINES = {
    "cdc": ("players.every=2",),  # whole images, then patches
    "ewc": ("gen_penalty.samples=4", "gen_penalty.group=4"),
    "minegan": ("players.kimg=0.004",),  # the miner alone, then all of G
    "bsa": (),
}

# GAN Memory's network has no norms, and AdaIN is refused there: tests/test_compose.py.
TRANSFERS = [pair for pair in product(TASKS, entries.known("backbone")) if pair != ("adain", "gan-memory-resnet")]


class Device(FakeTensorMode):
    """Fake tensors are on the device; real ones are the host's, and may be read."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(isinstance(x, FakeTensor) for x in tree_leaves((args, kwargs))):
            return super().__torch_dispatch__(func, types, args, kwargs)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def device(monkeypatch):
    mode = Device(allow_non_fake_inputs=True)
    monkeypatch.setattr(host, "sent", lambda x, device: mode.from_tensor(x))
    return mode


def beside(task):
    """Networks of a task that do not train: copies of the source's, and what sees features."""
    penalty = task.gen_penalty if isinstance(task, Gan) else None
    held = [getattr(task, "feature_net", None), *([] if penalty is None else vars(penalty).values())]
    return [x for x in tree_leaves(held) if isinstance(x, nn.Module)]


def put_on(mode, *modules):
    for module in {part for whole in modules for part in whole.modules()}:
        for tensors in (module._parameters, module._buffers):
            tensors |= {name: mode.from_tensor(x) for name, x in tensors.items() if x is not None}


def optimisers(task):
    return [task.gen_optimizer, task.disc_optimizer] if isinstance(task, Gan) else [task.gen_optimizer]


def run_phases(trainer, mode, steps=1):
    """Whole steps: phases, optimisers, moving average. The device runs behind the host, and is read nowhere."""
    task, batches, names = trainer.task, trainer.batches(), []
    modules = [task.generator, *task.stateful(), task.discriminator, task.learner, task.ema.ema_model, *beside(task)]
    put_on(mode, *modules)
    lists = [group["params"] for trained in optimisers(task) for group in trained.param_groups]
    for parameters in [*lists, task._disc_parameters] if isinstance(task, Gan) else lists:
        parameters[:] = map(mode.from_tensor, parameters)
    minimise = trainer._minimise

    def noted(phase, microbatches):
        names.append(phase.name)
        stats = minimise(phase, microbatches)
        assert isinstance(next(iter(stats.values())), FakeTensor)
        return stats

    trainer._minimise, trainer.late = noted, True
    with mode:
        for trainer.step in range(steps):
            trainer.take_step(next(batches))
            trainer._unread.clear()  # verdicts, which the next step reads when the device is long past them
    return names


@pytest.mark.parametrize(("task", "backbone"), TRANSFERS, ids=map("-".join, TRANSFERS))
def test_no_phase_of_a_transfer_reads_back(backbone, task, shards, tmp_path, device):
    source = tiny.write_source(tmp_path / "source", backbone)
    experiment = tiny.transfer(shards, source, *TASKS[task], name=task)
    experiment = aligning(experiment) if task.endswith("align") else experiment
    names = run_phases(tiny.make_trainer(experiment, tmp_path), device)
    assert names == (["align"] if task.endswith("align") else ["D", "G"])


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_phase_of_a_baseline_reads_back(baseline, shards, source, tmp_path, device):
    """In the first of its steps and in the second, which are different ones."""
    experiment = tiny.transfer(shards, source, *BASELINES[baseline], name=baseline)
    names = run_phases(tiny.make_trainer(experiment, tmp_path), device, steps=2)
    assert names == 2 * (["reconstruction"] if baseline == "bsa" else ["D", "G"])


@pytest.mark.parametrize("backbone", entries.known("backbone"))
def test_no_phase_of_a_pretraining_reads_back(backbone, shards, tmp_path, device):
    trainer = tiny.make_trainer(tiny.pretraining(shards, backbone=backbone), tmp_path)
    assert run_phases(trainer, device) == ["D", "G"]


def test_a_phase_that_reads_back_is_found(shards, source, tmp_path, device, monkeypatch):
    trainer = tiny.make_trainer(tiny.transfer(shards, source), tmp_path)
    real = trainer.task.rules.adversarial.disc
    monkeypatch.setattr(trainer.task.rules.adversarial, "disc", lambda a, b: real(a, b) * float(a.sum()), raising=False)
    with pytest.raises(DataDependentOutputException):
        run_phases(trainer, device)
