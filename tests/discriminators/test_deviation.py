"""The deviation within classes against loops; what a collapse and a lone sample look like."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.discriminators.deviation import class_stddev, minibatch_stddev
from hmgan.errors import UserError
from hmgan.train.prepare import prepare


def maps(samples, seed=0):
    return torch.randn(samples, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def deviation(rows):
    """Of flat samples: the mean over numbers of the biased deviation over samples."""
    columns = list(zip(*rows, strict=True))
    means = [sum(column) / len(rows) for column in columns]
    squares = [sum((x - m) ** 2 for x in column) / len(rows) for column, m in zip(columns, means, strict=True)]
    return sum((square + 1e-8) ** 0.5 for square in squares) / len(columns)


def naive(x, labels, group):
    values = []
    for first in range(0, len(x), group):
        inside = range(first, first + group)
        classes = {
            c: [x[i].flatten().tolist() for i in inside if labels[i] == c] for c in labels[first : first + group]
        }
        known = [deviation(classes[labels[i]]) for i in inside if len(classes[labels[i]]) > 1]
        alone = sum(known) / len(known) if known else deviation([x[i].flatten().tolist() for i in inside])
        values += [deviation(classes[labels[i]]) if len(classes[labels[i]]) > 1 else alone for i in inside]
    return values


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 0, 0, 1, 1, 1, 1],  # groups of one class
        [0, 1, 0, 1, 2, 2, 2, 0],  # pairs, and one alone
        [0, 1, 2, 3, 0, 0, 1, 2],  # all alone, and two alone
        [3, 3, 3, 0, 0, 3, 3, 3],
    ],
)
def test_it_is_what_loops_over_the_samples_of_a_class_make(labels):
    x = maps(8)
    out = class_stddev(x, torch.tensor(labels), 4)
    assert torch.equal(out[:, :3], x)
    assert out[:, 3].flatten(1).mean(1).tolist() == pytest.approx(naive(x, labels, 4))


@pytest.mark.parametrize(("group", "batches"), [(4, 1), (2, 1), (0, 1), (0, 2), (4, 2)])
def test_of_one_class_it_is_the_minibatch_deviation(group, batches):
    x = maps(8)
    torch.testing.assert_close(
        class_stddev(x, torch.ones(8, dtype=torch.long), group, batches), minibatch_stddev(x, group, batches)
    )


def test_one_image_per_class_is_seen_only_within_classes():
    """What the deviation over all classes is blind to."""
    labels = torch.tensor([0, 0, 1, 1])
    collapsed = maps(2)[labels]
    real = maps(4, seed=1)
    assert class_stddev(collapsed, labels, 4)[:, 3].max() < 2e-4
    assert minibatch_stddev(collapsed, 4)[:, 3].max() > 0.5 * minibatch_stddev(real, 4)[:, 3].max()


def test_a_sample_alone_of_its_class_does_not_look_like_a_collapse():
    x = maps(4)
    value = class_stddev(x, torch.tensor([0, 0, 0, 1]), 4)[:, 3, 0, 0]
    assert value[3] == value[0] > 0.1
    alone = class_stddev(x, torch.arange(4), 4)
    torch.testing.assert_close(alone, minibatch_stddev(x, 4))


def test_its_gradient_is_right_twice_also_where_all_samples_are_equal():
    x = maps(4).requires_grad_()
    labels = torch.tensor([0, 0, 1, 2])
    assert torch.autograd.gradgradcheck(lambda x: class_stddev(x, labels, 4)[:, 3].square().sum(), x)
    (grad,) = torch.autograd.grad(class_stddev(torch.zeros_like(x) + 0 * x, labels, 4).sum(), x)
    assert grad.isfinite().all()


def test_a_training_compares_within_classes_on_request(shards, source):
    for chosen, wanted in (((), False), (("task.within_class=true",), True)):
        task = prepare(tiny.transfer(shards, source, *chosen)).task
        assert task.discriminator.deviation.within_class is wanted
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    other = task.discriminator(images, labels).embedding
    task.discriminator.deviation.within_class = False
    assert not torch.equal(task.discriminator(images, labels).embedding, other)


def test_a_discriminator_without_the_deviation_is_refused(shards, source):
    sizes = [f"discriminator.{key}={value}" for key, value in tiny.DISCRIMINATOR.items()]
    with pytest.raises(UserError) as caught:
        prepare(
            tiny.transfer(
                shards, source, "discriminator.name=biggan", *sizes, "task.freeze=[]", "task.within_class=true"
            )
        )
    assert str(caught.value) == ("task.within_class is of D's minibatch deviation, and this D has none; leave it out")
