"""The network between ranks: how long a small reduction takes, how fast a large one is, and whether clocks agree.

The collectives here are what is measured; training's own are in train/distributed/runtime.py.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter, time

import torch
import torch.distributed as dist

from hmgan.doctor.probe import ProbeResult, rate
from hmgan.units import MIB

SMALL, LARGE = 4, 64 * MIB  # bytes
ROUNDS, LARGE_ROUNDS = 30, 4
# Far outside what any working network shows.
SLOW_LATENCY, SLOW_RATE, SKEW = 0.02, 100 * MIB, 1.0  # seconds, bytes per second, seconds


def seconds_of_reduction(count: int, device: torch.device, rounds: int) -> float:
    """The median time to reduce `count` bytes; all ranks begin each round together."""
    x = torch.zeros(count // 4, device=device)
    took = []
    for _ in range(rounds + 2):
        dist.barrier()
        start = perf_counter()
        dist.all_reduce(x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(perf_counter() - start)
    return median(took[2:])  # the first ones open connections


def clock_skew(device: torch.device) -> list[float]:
    """Seconds by which each rank's clock is ahead of rank 0's, give or take the time a barrier takes."""
    rounds = []
    for _ in range(5):
        dist.barrier()
        now = torch.tensor([time()], dtype=torch.float64, device=device)
        clocks = [torch.zeros_like(now) for _ in range(dist.get_world_size())]
        dist.all_gather(clocks, now)
        rounds.append([float(clock - clocks[0]) for clock in clocks])
    return [median(of_rank) for of_rank in zip(*rounds, strict=True)]


def network(device: torch.device) -> ProbeResult:
    """Reductions and clocks, measured on every rank at once."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        alone = "one rank; start it as training is, with torchrun, to measure"
        return ProbeResult("network", [("between ranks", alone)])
    latency = seconds_of_reduction(SMALL, device, ROUNDS)
    seconds = seconds_of_reduction(LARGE, device, LARGE_ROUNDS)
    worst, skew = max(enumerate(clock_skew(device)), key=lambda clock: abs(clock[1]))
    rows = [
        ("backend", dist.get_backend()),
        ("all-reduce", f"4 B in {1e3 * latency:.2f} ms, 64 MiB at {rate(LARGE, seconds)}"),
        ("clocks", f"within {1e3 * abs(skew):.1f} ms of rank 0's"),
    ]
    problems = []
    faster = "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names the network interface that is used"
    if latency > SLOW_LATENCY:
        problems.append(f"an all-reduce of 4 bytes takes {1e3 * latency:.0f} ms; {faster}")
    if LARGE / seconds < SLOW_RATE:
        problems.append(f"all-reduce moves {rate(LARGE, seconds)}; {faster}")
    if abs(skew) > SKEW:
        off = f"the clock of rank {worst} is {skew:+.1f} s off rank 0's"
        problems.append(f"{off}, so that logs and timeouts mislead; synchronise it (NTP)")
    return ProbeResult("network", rows, problems)
