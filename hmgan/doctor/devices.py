"""Where each rank runs, what it computes on, and how much memory is free there."""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from hmgan.doctor.probe import ProbeResult
from hmgan.units import MIB, size

SHARED = Path("/dev/shm")
LEAST_SHARED = 256 * MIB  # containers have 64 MiB unless told otherwise


class RankDevice(NamedTuple):
    """What one rank computes on; memory in bytes."""

    host: str
    name: str
    free: int
    total: int
    gpus: int  # of its machine
    cores: int  # that it may use
    threads: int
    shared: int  # memory that processes of its machine can share


def rank_device(device: torch.device) -> RankDevice:
    """This rank's GPU with its own memory, or CPU with the machine's."""
    if device.type == "cuda":
        name, (free, total) = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)
    else:
        memory = psutil.virtual_memory()
        name, free, total = "CPU", memory.available, memory.total
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    shared = shutil.disk_usage(SHARED).total if SHARED.is_dir() else 0
    return RankDevice(socket.gethostname(), name, free, total, torch.cuda.device_count(), cores, threads, shared)


def devices(ranks: Sequence[RankDevice]) -> ProbeResult:
    """What all ranks compute on, and where they get in each other's way."""
    hosts = Counter(rank.host for rank in ranks)
    kinds = dict.fromkeys((rank.name, size(rank.total)) for rank in ranks)
    least = min(range(len(ranks)), key=lambda i: ranks[i].free)
    rows = [
        ("ranks", f"{len(ranks)} on {', '.join(f'{host} ({n})' for host, n in hosts.items())}"),
        ("each on", ", ".join(f"{name} of {total}" for name, total in kinds)),
        ("memory free", f"{size(ranks[least].free)} (rank {least}, which has the least)"),
        ("CPU", f"{ranks[0].cores} cores, {ranks[0].threads} threads in each rank"),
        ("shared memory", f"{size(min(rank.shared for rank in ranks))} in {SHARED}"),
    ]
    problems = [
        line for host, n in hosts.items() for line in crowding(next(rank for rank in ranks if rank.host == host), n)
    ]
    if len(kinds) > 1:
        problems.append("ranks have unlike devices, and all wait for the slowest; give them like ones")
    if not ranks[0].gpus and shutil.which("nvidia-smi"):
        problems.append(
            f"nvidia-smi is here and torch {torch.__version__} finds no GPU; install the CUDA build of torch, or look "
            "at CUDA_VISIBLE_DEVICES"
        )
    return ProbeResult("devices", rows, problems)


def crowding(here: RankDevice, count: int) -> list[str]:
    """What `count` ranks of one machine have too little of: shared memory; GPUs or, without any, cores."""
    problems = []
    if here.shared < LEAST_SHARED:
        # NCCL and the loader's workers fail half-way through a step, with errors that do not name it.
        problems.append(
            f"{SHARED} of {here.host} has {size(here.shared)}, too little for NCCL and for loader.workers; "
            "give the container more (--shm-size=8g, or an emptyDir of medium Memory)"
        )
    if here.gpus and count > here.gpus:
        problems.append(f"{count} ranks share {here.gpus} GPUs of {here.host}; start one rank per GPU")
    if not here.gpus and count > 1 and count * here.threads > here.cores:
        problems.append(
            f"{count} ranks with {here.threads} threads each share {here.cores} cores of {here.host}; "
            f"set OMP_NUM_THREADS={max(1, here.cores // count)}"
        )
    return problems
