"""Cross-domain correspondence against loops over pairs."""

from __future__ import annotations

import math

import torch

from hmgan.losses.base import Adaptation, Transferred
from hmgan.losses.cdc import Correspondence
from hmgan.types import GenOut


def maps(seed, blocks=3, samples=4):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(samples, 2, 4 << i, 4 << i, generator=generator).double() for i in range(blocks))


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def cosine(a, b):
    dot, size_a, size_b = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b)))
    return dot / math.sqrt(size_a * size_b)


def naive(source, adapted):
    """The mean over all entries of p (log p - log q)."""
    entries = []
    for i in range(len(source)):
        rows = []
        for features in (source, adapted):
            flat = [f.flatten().tolist() for f in features]
            rows.append(softmax([cosine(flat[i], flat[j]) for j in range(len(flat)) if j != i]))
        entries += [p * math.log(p / q) for p, q in zip(*rows, strict=True)]
    return sum(entries) / len(entries)


def penalty(source, adapted, key):
    cdc = Correspondence(Transferred(lambda latents: GenOut(None, source), None, None))
    return cdc(Adaptation(None, GenOut(None, adapted), None, key, lambda x: x, None, print))


def test_it_is_the_mean_over_loops_of_pairs_for_the_block_that_the_key_draws():
    source, adapted = maps(0), maps(1)
    for key, block in ((0, 1), (1, 2), (2, 1), (2**62 + 1, 1 + (2**62 + 1) % 2)):
        assert math.isclose(float(penalty(source, adapted, key)), naive(source[block], adapted[block]), rel_tol=1e-9)


def test_it_is_zero_where_likenesses_agree_whatever_the_scale():
    source = maps(0)
    assert abs(float(penalty(source, tuple(3 * f for f in source), 0))) < 1e-12
    assert float(penalty(source, maps(1), 0)) > 1e-6


def test_it_reaches_the_adapted_features_alone():
    source, adapted = maps(0), tuple(f.requires_grad_() for f in maps(1))
    source[1].requires_grad_()
    cdc = Correspondence(Transferred(lambda latents: GenOut(None, tuple(2 * f for f in source)), None, None))
    cdc(Adaptation(None, GenOut(None, adapted), None, 0, lambda x: x, None, print)).backward()
    assert source[1].grad is None
    assert adapted[1].grad is not None
    assert adapted[2].grad is None
