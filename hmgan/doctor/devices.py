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

from hmgan.doctor.section import Section
from hmgan.units import MIB, size

SHARED = Path("/dev/shm")
LEAST_SHARED = 256 * MIB  # containers have 64 MiB unless told otherwise


class Place(NamedTuple):
    """One rank."""

    host: str
    device: str
    name: str
    free: int
    total: int
    gpus: int  # of its machine
    cores: int  # that it may use
    threads: int
    shared: int  # memory that processes of its machine can share


def place(device: torch.device) -> Place:
    """Of this rank. A GPU's memory, or the machine's."""
    if device.type == "cuda":
        name, (free, total) = torch.cuda.get_device_name(device), torch.cuda.mem_get_info(device)
    else:
        memory = psutil.virtual_memory()
        name, free, total = "CPU", memory.available, memory.total
    cores = len(os.sched_getaffinity(0))
    gpus, threads = torch.cuda.device_count(), torch.get_num_threads()
    shared = shutil.disk_usage(SHARED).total if SHARED.is_dir() else 0
    return Place(socket.gethostname(), str(device), name, free, total, gpus, cores, threads, shared)


def devices(of_ranks: Sequence[Place]) -> Section:
    """`of_ranks`: where every rank is."""
    section, hosts = Section.empty("devices"), Counter(place.host for place in of_ranks)
    section.rows.append(("ranks", f"{len(of_ranks)} on {', '.join(f'{host} ({n})' for host, n in hosts.items())}"))
    kinds = Counter((place.name, size(place.total)) for place in of_ranks)
    section.rows.append(("each on", ", ".join(f"{name} of {total}" for name, total in kinds)))
    least = min(range(len(of_ranks)), key=lambda rank: of_ranks[rank].free)
    section.rows.append(("memory free", f"{size(of_ranks[least].free)} (rank {least}, which has the least)"))
    section.rows.append(("CPU", f"{of_ranks[0].cores} cores, {of_ranks[0].threads} threads in each rank"))
    section.rows.append(("shared memory", f"{size(min(place.shared for place in of_ranks))} in {SHARED}"))
    for host, count in hosts.items():
        here = next(place for place in of_ranks if place.host == host)
        section.problems.extend(crowding(here, count))
    if len(kinds) > 1:
        section.problems.append("ranks have unlike devices, and all wait for the slowest; give them like ones")
    if not of_ranks[0].gpus and shutil.which("nvidia-smi"):
        section.problems.append(
            f"nvidia-smi is here and torch {torch.__version__} finds no GPU; install the CUDA build of torch, or look "
            "at CUDA_VISIBLE_DEVICES"
        )
    return section


def crowding(here: Place, count: int) -> list[str]:
    """What `count` ranks of one machine have too little of."""
    return unshared(here) + unplaced(here, count)


def unshared(here: Place) -> list[str]:
    """NCCL and the loaders' processes fail in it, half way through a step, with errors that do not name it."""
    if here.shared >= LEAST_SHARED:
        return []
    what = f"{SHARED} of {here.host} has {size(here.shared)}, too little for NCCL and for loader.workers"
    return [f"{what}; give the container more (--shm-size=8g, or an emptyDir of medium Memory)"]


def unplaced(here: Place, count: int) -> list[str]:
    """GPUs, or else cores."""
    if here.gpus and count > here.gpus:
        return [f"{count} ranks share {here.gpus} GPUs of {here.host}; start one rank per GPU"]
    if not here.gpus and count > 1 and count * here.threads > here.cores:
        return [
            f"{count} ranks with {here.threads} threads each share {here.cores} cores of {here.host}; "
            f"set OMP_NUM_THREADS={max(1, here.cores // count)}"
        ]
    return []
