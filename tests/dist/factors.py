"""One rank of a world: heads' gradients averaged as factors, against the plain ones, and how much was reduced."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.modulation.affine import AffineHead
from hmgan.modulation.factors import Factors
from hmgan.modulation.step import Step, current, taking
from hmgan.train.distributed.runtime import Runtime

CLASSES, WIDTH, ENTRIES = 5, 16, 128


class Network(nn.Module):
    """Class vectors and two heads of them."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(CLASSES, WIDTH)
        first, second = AffineHead(WIDTH, ENTRIES, unit=0.5, spread=1.0), AffineHead(WIDTH, ENTRIES, spread=1.0)
        self.heads = nn.ModuleList([first, second])
        self.weights = torch.randn(CLASSES, ENTRIES)

    def backward(self, classes_R: Tensor, twice: bool) -> None:
        """Of a microbatch; the last head may be read twice, once through something that is not the class vector."""
        v_RE = self.vectors(classes_R)
        with current().factors.heads_of(v_RE, classes_R):
            first, second = (head(v_RE) for head in self.heads)
            other = self.heads[1](2 * v_RE) if twice else 0
        (((first * second).sin() + other) * self.weights[classes_R]).sum().backward()


def averaged(network: Network, runtime: Runtime, factors: Factors) -> tuple[Tensor, list[Tensor], int]:
    """What the runtime says of the gradients, the gradients, and how many numbers were reduced."""
    sent = []
    reduce = torch.distributed.all_reduce
    torch.distributed.all_reduce = lambda x: (sent.append(x.numel()), reduce(x))
    try:
        with taking(Step(factors=factors)):
            # Of two microbatches; each rank lacks classes, and all of them lack the last one.
            for offset in range(2):
                classes = [(runtime.rank + offset) % (CLASSES - 1), (runtime.rank + 2) % (CLASSES - 1)]
                network.backward(torch.tensor(classes), twice=runtime.world == 3)
            verdict = runtime.average_gradients(network, torch.tensor(1.0))
    finally:
        torch.distributed.all_reduce = reduce
    gradients = [p.grad for p in network.parameters()]
    network.zero_grad(set_to_none=True)
    return verdict, gradients, sum(sent)


def main(world: int) -> None:
    runtime = Runtime()
    assert runtime.world == world
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    network = Network()
    _, plain, whole = averaged(network, runtime, Factors(0))
    verdict, factored, fewer = averaged(network, runtime, Factors(CLASSES))
    for one, other in zip(plain, factored, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12 * float(one.abs().max()))
        assert one.abs().max() > 0
    assert verdict[0].isfinite()
    saved = 1 if world == 3 else 2  # heads whose gradient is all a product of class vectors
    assert whole - fewer == saved * ENTRIES * (WIDTH - CLASSES) - CLASSES * (WIDTH + 1), (whole, fewer)
    runtime.accelerator.end_training()
