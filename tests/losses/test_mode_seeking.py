"""The mode-seeking penalty against loops over pairs and pixels; a line where there are none; no copies of networks."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch

from hmgan.losses.base import Adaptation
from hmgan.losses.mode_seeking import NO_PAIR, ModeSeeking
from hmgan.train.log import RunLog
from hmgan.types import GenOut


def penalty(images, labels, say=print):
    return ModeSeeking()(Adaptation(None, GenOut(images, ()), torch.tensor(labels), 0, lambda x: x, None, say))


def naive(images, labels):
    """Every image and the next one of its class, in loops."""
    total, pixels = 0.0, 0
    for i, label in enumerate(labels):
        later = [j for j in range(i + 1, len(labels)) if labels[j] == label]
        for j in later[:1]:
            for c in range(3):
                for y in range(0, images.shape[2], 2):
                    for x in range(0, images.shape[3], 2):
                        one, other = (float(images[k, c, y : y + 2, x : x + 2].mean()) for k in (i, j))
                        total, pixels = total + abs(one - other), pixels + 1
    return 1 / (total / pixels + 0.05)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 0, 1, 0], [2, 1, 2, 2], [0, 3, 1, 3]])
def test_it_is_what_loops_over_pairs_of_one_class_make(labels):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    assert penalty(images, labels).item() == pytest.approx(naive(images, labels))


def test_a_class_of_one_image_has_no_part_in_it():
    images = torch.randn(3, 3, 4, 4).requires_grad_()
    penalty(images, [0, 1, 0]).backward()
    assert [bool(grad.any()) for grad in images.grad] == [True, False, True]


def test_equal_images_of_a_class_are_the_worst_and_the_gradient_parts_those_that_nearly_are():
    images = torch.zeros(2, 3, 4, 4)
    assert penalty(images, [0, 0]).item() == pytest.approx(20)
    images = (0.01 * torch.randn(2, 3, 4, 4)).requires_grad_()
    before = penalty(images, [0, 0])
    (grad,) = torch.autograd.grad(before, images)
    assert penalty(images - 1e-3 * grad, [0, 0]) < before


def test_a_batch_without_pairs_adds_zero_and_says_so():
    said, images = [], torch.randn(2, 3, 4, 4).requires_grad_()
    value = penalty(images, [0, 1], said.append)
    value.backward()
    assert value.item() == 0
    assert not images.grad.any()
    assert said == [NO_PAIR]


def test_a_training_says_once_that_batches_have_no_pairs(shards, source, tmp_path, monkeypatch):
    one_each = ("train.batch=2", "discriminator.name=stylegan1", "discriminator.stddev_group=1", "train.kimg=0.02")
    sizes = [f"discriminator.{key}={value}" for key, value in tiny.DISCRIMINATOR.items()]
    settings = (*one_each, *sizes, "task.freeze=[]", "gen_penalty=mode-seeking")
    trainer, said = tiny.make_trainer(tiny.transfer(shards, source, *settings), tmp_path), []
    with RunLog(None, 1.0) as log:
        monkeypatch.setattr(log, "say", said.append)
        trainer.train(log)
    assert said.count(NO_PAIR) == 1


def test_it_is_built_without_copies_of_the_networks(shards, source, monkeypatch):
    copied, deepcopy = [], copy.deepcopy
    monkeypatch.setattr(copy, "deepcopy", lambda x, *rest: (copied.append(type(x)), deepcopy(x, *rest))[1])
    for name, networks in (("mode-seeking", 0), ("cdc", 2)):
        copied.clear()
        tiny.prepare(tiny.transfer(shards, source, f"gen_penalty={name}", name="transfergan"))
        assert sum(issubclass(each, torch.nn.Module) for each in copied) >= networks
        assert any(issubclass(each, torch.nn.Module) for each in copied) == bool(networks)
