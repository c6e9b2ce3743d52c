"""One rank of a world: heads' gradients averaged as factors, against the plain ones, and how much was reduced."""

from __future__ import annotations

import sys

import torch
from torch import nn

from hmgan.modulation.affine import AffineHead
from hmgan.modulation.factors import Factors
from hmgan.modulation.step import Step, current, taking
from hmgan.train.distributed.runtime import Runtime

CLASSES, WIDTH, ENTRIES = 5, 16, 128
runtime = Runtime()
assert runtime.world == int(sys.argv[1])
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
vectors = nn.Embedding(CLASSES, WIDTH)
heads = nn.ModuleList([AffineHead(WIDTH, ENTRIES, unit=0.5, spread=1.0), AffineHead(WIDTH, ENTRIES, spread=1.0)])
network = nn.ModuleList([vectors, heads])
weights = torch.randn(CLASSES, ENTRIES)


def backward(classes_R):
    """Of a microbatch: its first head is read twice, once through something that is not the class vector."""
    v_RE = vectors(classes_R)
    with current().factors.heads_of(v_RE, classes_R):
        first, second = (head(v_RE) for head in heads)
        other = heads[1](2 * v_RE) if runtime.world == 3 else 0
    (((first * second).sin() + other) * weights[classes_R]).sum().backward()


def averaged(factors):
    sent = []
    reduce = torch.distributed.all_reduce
    torch.distributed.all_reduce = lambda x: (sent.append(x.numel()), reduce(x))
    try:
        with taking(Step(factors=factors)):
            # Of two microbatches; each rank lacks classes, and all of them lack the last one.
            for offset in range(2):
                backward(torch.tensor([(runtime.rank + offset) % (CLASSES - 1), (runtime.rank + 2) % (CLASSES - 1)]))
            norm = runtime.average_gradients(network, torch.tensor(1.0))
    finally:
        torch.distributed.all_reduce = reduce
    grads = [p.grad for p in network.parameters()]
    network.zero_grad(set_to_none=True)
    return norm, grads, sum(sent)


_, plain, whole = averaged(Factors(0))
norm, factored, fewer = averaged(Factors(CLASSES))
for one, other in zip(plain, factored, strict=True):
    torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12 * float(one.abs().max()))
    assert one.abs().max() > 0
assert norm[0].isfinite()
saved = 1 if runtime.world == 3 else 2  # heads whose gradient is all a product of class vectors
assert whole - fewer == saved * ENTRIES * (WIDTH - CLASSES) - CLASSES * (WIDTH + 1), (whole, fewer)
runtime.accelerator.end_training()
