"""D's passes in one are D's passes: the same losses and gradients, in float64 to its rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from golden_runs import float64

from hmgan.config import entries
from hmgan.train.tasks.gan_losses import disc_loss

VIEWS = ("contrastive=barlow-twins", "task.freeze=[]", "task.mixing=0.5")
DISCS = {
    "stylegan1": (),
    "stylegan2": ("discriminator.stddev_group=2",),
    "biggan": ("disc_head=projection",),
    "gan-memory-resnet": (),
}


def pretrained(shards, disc, *more):
    small = ("discriminator.resolution=8", "discriminator.channels=[8, 8]")
    chosen = (
        f"discriminator.name={disc}",
        *small,
        *DISCS[disc],
        "contrastive=barlow-twins",
        "train.labels=true",
        *more,
    )
    return tiny.pretraining(shards, *chosen, backbone="biggan")


def d_phase(trainer, merge, step=1):
    """Its statistics, and D's gradient as one vector; and how large D's passes were."""
    task, sizes = trainer.task, []
    trainer.step = step
    (microbatch,) = trainer.microbatches(next(trainer.batches()))
    rules, critic = replace(task.rules, merge=merge), task.critic
    players = task.players.opponents(step, 0.0)
    look = players.discriminator.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    loss, stats = disc_loss(players, rules, task.penalties, microbatch, trainer.runtime.gather)
    critic.zero_grad()
    loss.backward()
    look.remove()
    grads = [p.grad.flatten() for p in critic.parameters() if p.grad is not None]
    return {name: x.detach() for name, x in stats.items()}, torch.cat(grads), sizes


def assert_merged_alike(experiment, folder, passes, step=1):
    with float64():
        trainer = tiny.make_trainer(experiment, folder)
        # ADA and LeCam remember: each run begins with what they knew at first.
        known = [{k: v.clone() for k, v in m.state_dict().items()} for m in trainer.task.stateful()]
        stats, grads, sizes = d_phase(trainer, False, step)
        for module, state in zip(trainer.task.stateful(), known, strict=True):
            module.load_state_dict(state)
        merged_stats, merged_grads, merged_sizes = d_phase(trainer, True, step)
    assert (sizes, merged_sizes) == passes
    assert merged_stats.keys() == stats.keys()
    for name in stats:
        torch.testing.assert_close(merged_stats[name], stats[name], rtol=1e-12, atol=1e-12)
    assert float(grads.norm()) > 0
    assert float((merged_grads - grads).norm() / grads.norm()) < 1e-12


IN_ONE = ([4, 4, 8, 8], [24])


@pytest.mark.parametrize("head", entries.known("disc-head"))
@pytest.mark.parametrize("beside", [(), ("augment=diffaugment",), ("augment.name=ada", "augment.start=0.8")])
def test_under_every_head_and_augmentation(head, beside, shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, f"disc_head={head}", *VIEWS, *beside)
    assert_merged_alike(experiment, tmp_path, IN_ONE)


@pytest.mark.parametrize("disc", DISCS)
def test_of_every_discriminator(disc, shards, tmp_path):
    assert_merged_alike(pretrained(shards, disc), tmp_path, IN_ONE)


@pytest.mark.parametrize(
    ("chosen", "passes"),
    [
        (("contrastive=dcl", "regularizer=lecam"), ([4, 4], [8])),
        (("contrastive=none", "adversarial=dual-contrastive"), ([4, 4], [8])),
        ((*VIEWS, "task.within_class=true", "loader.stratified=true", "loader.group=2"), IN_ONE),
    ],
)
def test_of_losses_that_ask_for_other_passes(chosen, passes, shards, source, tmp_path):
    assert_merged_alike(tiny.transfer(shards, source, "task.freeze=[]", *chosen), tmp_path, passes)


@pytest.mark.parametrize("step", [1, 2])  # whole images near anchors in one step of two, patches in the other
def test_of_patches(step, shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, "players.every=2", "players.patch_blocks=1", name="cdc")
    assert_merged_alike(experiment, tmp_path, ([4, 4], [8]), step)


def test_a_step_with_r1_has_its_passes_apart(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, *VIEWS, "compute.merge=true")
    assert_merged_alike(experiment, tmp_path, ([4, 4, 8, 8], [4, 4, 8, 8]), step=0)


def test_microbatches_of_merged_passes_are_the_step(shards, source, tmp_path):
    found = []
    for more in ((), ("train.accumulate=2", "compute.merge=true")):
        with float64():
            trainer = tiny.make_trainer(tiny.transfer(shards, source, *VIEWS, "train.batch=8", *more), tmp_path)
            trainer.step = 1
            trainer.take_step(next(trainer.batches()))
            found.append(torch.cat([p.detach().flatten() for p in trainer.task.critic.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
