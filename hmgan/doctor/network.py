"""The way between the ranks: how long a small reduction takes, how fast a large one is, and whether clocks agree.

The collectives here are what is measured; training's own are in train/runtime.py.
"""

from __future__ import annotations

import time
from statistics import median

import torch
import torch.distributed as dist

from hmgan.doctor.section import Section, rate, watch
from hmgan.units import MIB

SMALL, LARGE = 4, 64 * MIB  # bytes
ROUNDS, LARGE_ROUNDS = 30, 4
# Far outside of what any working network shows.
SLOW_LATENCY, SLOW_RATE, SKEW = 0.02, 100 * MIB, 1.0  # seconds, bytes per second, seconds


def seconds_of_reduction(count: int, device: torch.device, rounds: int) -> float:
    """The median over rounds, each begun by all ranks together."""
    x = torch.zeros(count // 4, device=device)
    took = []
    for _ in range(rounds + 2):
        dist.barrier()
        with watch() as timer:
            dist.all_reduce(x)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        took.append(timer.seconds)
    return median(took[2:])  # the first ones open connections


def clock_skew(device: torch.device) -> list[float]:
    """Seconds by which each rank's clock is ahead of rank 0's, but for the time that a barrier takes to open."""
    rounds = []
    for _ in range(5):
        dist.barrier()
        now = torch.tensor([time.time()], dtype=torch.float64, device=device)
        clocks = [torch.zeros_like(now) for _ in range(dist.get_world_size())]
        dist.all_gather(clocks, now)
        rounds.append([float(clock - clocks[0]) for clock in clocks])
    return [median(of_rank) for of_rank in zip(*rounds, strict=True)]


def network(device: torch.device) -> Section:
    """Called on every rank at once."""
    section = Section.empty("network")
    if not dist.is_initialized() or dist.get_world_size() == 1:
        section.rows.append(("between ranks", "one rank; start it as training is, with torchrun, to measure"))
        return section
    latency = seconds_of_reduction(SMALL, device, ROUNDS)
    seconds = seconds_of_reduction(LARGE, device, LARGE_ROUNDS)
    skew = clock_skew(device)
    worst = max(range(len(skew)), key=lambda rank: abs(skew[rank]))
    section.rows.append(("backend", dist.get_backend()))
    section.rows.append(("all-reduce", f"4 B in {1e3 * latency:.2f} ms, 64 MiB at {rate(LARGE, seconds)}"))
    section.rows.append(("clocks", f"within {1e3 * abs(skew[worst]):.1f} ms of rank 0's"))
    faster = "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names the network interface that is used"
    if latency > SLOW_LATENCY:
        section.problems.append(f"an all-reduce of 4 bytes takes {1e3 * latency:.0f} ms; {faster}")
    if LARGE / seconds < SLOW_RATE:
        section.problems.append(f"all-reduce moves {rate(LARGE, seconds)}; {faster}")
    if abs(skew[worst]) > SKEW:
        section.problems.append(
            f"the clock of rank {worst} is {skew[worst]:+.1f} s off rank 0's, so that logs and timeouts mislead; "
            "synchronise it (NTP)"
        )
    return section
