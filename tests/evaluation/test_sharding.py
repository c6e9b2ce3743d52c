"""Shares of several ranks, in threads that gather from each other, against one process."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from alone import Alone
from torch import Tensor, nn

from hmgan.evaluation.features import real_features
from hmgan.evaluation.sharding import BATCH, sharded
from hmgan.metrics.features import Extractor


class Rendezvous:
    """Where the ranks of one test gather."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.barrier = threading.Barrier(world, timeout=10)
        self.held: dict[int, Tensor] = {}

    def gather(self, rank: int, x: Tensor) -> Tensor:
        self.held[rank] = x
        self.barrier.wait()
        rows = torch.cat([self.held[r] for r in range(self.world)])
        self.barrier.wait()
        return rows


@dataclass
class Rank:
    rank: int
    rendezvous: Rendezvous
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @property
    def world(self) -> int:
        return self.rendezvous.world

    def gather(self, x: Tensor) -> Tensor:
        return self.rendezvous.gather(self.rank, x)

    gather_or_stop = gather  # none is told to stop


def on_ranks(world: int, work) -> list:
    """work(ranks) of every rank, side by side."""
    rendezvous, results = Rendezvous(world), {}

    def run(rank: int) -> None:
        results[rank] = work(Rank(rank, rendezvous))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world)]


@pytest.mark.parametrize("count", [0, 5, BATCH, 3 * BATCH + 7, 5 * BATCH])
@pytest.mark.parametrize("world", [2, 3])
def test_any_number_of_ranks_computes_the_same_batches_and_holds_the_same_rows(count: int, world: int) -> None:
    asked = []

    def compute(first: int, size: int) -> Tensor:
        asked.append((first, size))
        return torch.arange(first, first + size, dtype=torch.float64)[:, None] ** 2

    expected = sharded(count, Alone(), compute)
    assert expected.flatten().tolist() == [i * i for i in range(count)]
    asked.clear()
    for rows in on_ranks(world, lambda ranks: sharded(count, ranks, compute)):
        assert torch.equal(rows, expected)
    assert all(first % BATCH == 0 for first, size in asked if size)
    assert sum(size for _, size in asked) == count
    assert max(size for _, size in asked) <= BATCH * -(-count // BATCH // world) + BATCH


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Images:
    classes = ("cat", "dog")
    digest = "images"

    def __init__(self) -> None:
        self.images = torch.randint(0, 256, (300, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        self.labels = (torch.arange(300) % 3 == 0).long()
        self.reads = 0

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.images[i], int(self.labels[i])


def test_real_features_are_read_once_by_all_ranks_together_and_held_and_kept_by_the_first(tmp_path: Path) -> None:
    data, alone = Images(), Images()
    made = Extractor(MeanColour(), name="toy", digest="d" * 64, dim=3, side=8)
    expected = real_features(alone, made, cache=None, ranks=Alone())
    first, second = on_ranks(2, lambda ranks: real_features(data, made, cache=tmp_path, ranks=ranks))
    assert second == {}
    assert all(torch.equal(first[cls], expected[cls]) for cls in data.classes)
    assert data.reads == 300
    again, nothing = on_ranks(2, lambda ranks: real_features(data, made, cache=tmp_path, ranks=ranks))
    assert nothing == {}
    assert all(torch.equal(again[cls], expected[cls]) for cls in data.classes)
    assert data.reads == 300
