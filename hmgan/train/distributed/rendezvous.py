"""How ranks meet: each says that it is here, or why it will not be, before any of them waits for the others.

Without this a rank that never comes leaves the others to the process group's time-out, which does not say who it is.
They speak through a store at MASTER_ADDR and MASTER_PORT, where the process group has its own: rank 0's, or torchrun's.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore

from hmgan.errors import UserError

PATIENCE = 300.0  # seconds for all to come; train.timeout, where that is shorter
GRACE = 10.0  # seconds in which the others can read why rank 0, which hosts the store, leaves
POLL = 0.05
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
LAUNCHED = {"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": 0}  # from which value on a variable says that there is a launcher
COUNT, FAILURE = "count", "failure"  # ranks that have spoken; rank and message of the first that has failed


class RankInfo(NamedTuple):
    """This rank among the others, as its launcher says."""

    rank: int
    world: int
    address: str
    port: int
    local_main: bool  # whether it speaks for its machine

    @property
    def hosts_store(self) -> bool:
        """Whether the store is in this process; torchrun has one of its own."""
        return self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

    def store(self, seconds: float) -> Store:
        """Raises RuntimeError or OSError if it cannot be reached in time."""
        hosts, deadline = self.hosts_store, time.monotonic() + seconds
        while not hosts:  # by a connection of our own: torch's prints stack traces in C++ while it has none
            try:
                socket.create_connection((self.address, self.port), seconds).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL)
        # multi_tenant: the process group's own, made later at the same port, is the same server.
        patience = timedelta(seconds=seconds)
        tcp = TCPStore(self.address, self.port, None, hosts, patience, wait_for_workers=False, multi_tenant=True)
        return PrefixStore("rendezvous", tcp)


def rank_info() -> RankInfo | None:
    """None for a process that is alone, and for one whose process group is there.

    Raises: UserError for variables of a launcher that are left over, or that do not go together.
    """
    check_launched(os.environ)
    given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
    if not all(given) or given[1] == "1" or dist.is_initialized():
        return None
    rank, world, address, port = given
    return RankInfo(int(rank), int(world), address, int(port), os.environ.get("LOCAL_RANK", "0") == "0")


def check_launched(variables: Mapping[str, str]) -> None:
    """Raises UserError for a launcher's variables that are no numbers, are out of range, or lack others."""
    todo = "unset it, or start with hmgan launch"
    for name in (*NUMBERS, "MASTER_PORT"):
        if (value := variables.get(name)) is not None and not re.fullmatch(r"\d+|-1", value):
            raise UserError(f"the variable {name} of a launcher must be a number, got {value!r}; {todo}")
    number = {name: int(variables[name]) for name in NUMBERS if name in variables}
    for rank, world in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if number.get(world, 1) < 1:
            raise UserError(f"the variable {world}={number[world]} of a launcher must be 1 or more; {todo}")
        if rank in number and number[rank] >= number.get(world, number[rank] + 1):
            raise UserError(f"the variable {rank}={number[rank]} must be below {world}={number[world]}; {todo}")
    left = next((name for name, least in LAUNCHED.items() if number.get(name, -1) >= least), None)
    lacking = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not variables.get(name)]
    if left is not None and lacking:
        raise UserError(f"the variable {left}={number[left]} of a launcher is set without {', '.join(lacking)}; {todo}")


@contextmanager
def rendezvous(timeout: float) -> Iterator[None]:
    """Around the making of the process group: all ranks are here, and one that dies meanwhile ends the others.

    Args:
        timeout: seconds for all to come, and again for the group to be there; at most PATIENCE.

    Raises: UserError if a rank does not come, with its number, or has failed before it could, with its message.
    """
    own, seconds = rank_info(), min(timeout, PATIENCE)
    if own is None:
        yield
        return
    try:
        store = own.store(seconds)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"rank {own.rank} of {own.world} cannot use {own.address}:{own.port}, where the ranks meet "
            f"({str(error).splitlines()[0]}); look at MASTER_ADDR, MASTER_PORT, and what rank 0 says"
        ) from None
    _wait_for_all(own, store, seconds)
    timer = threading.Timer(seconds, _give_up, (seconds,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        del store  # on rank 0 the others have read it until now


@contextmanager
def failure_announced() -> Iterator[None]:
    """Around what a rank does before the rendezvous: a UserError of it ends the others too, with its message."""
    try:
        yield
    except UserError as error:
        if (own := rank_info()) is not None:
            with suppress(RuntimeError, OSError):  # there is nobody to tell
                _announce(own, str(error))
        raise


def _announce(own: RankInfo, text: str) -> None:
    store = own.store(GRACE)
    store.compare_set(FAILURE, "", json.dumps([own.rank, text]))
    deadline = time.monotonic() + GRACE
    spoken = store.add(COUNT, 1)
    while own.hosts_store and spoken < own.world and time.monotonic() < deadline:
        time.sleep(POLL)
        spoken = store.add(COUNT, 0)
    if own.hosts_store:
        time.sleep(4 * POLL)  # until the last one has read it


def _wait_for_all(own: RankInfo, store: Store, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    try:
        store.set(str(own.rank), "")
        spoken = store.add(COUNT, 1)
        while spoken < own.world and not store.check([FAILURE]):
            if time.monotonic() > deadline:
                absent = [str(rank) for rank in range(own.world) if not store.check([str(rank)])]
                raise UserError(
                    f"rank {', '.join(absent)} of {own.world} did not come to {own.address}:{own.port} within "
                    f"{seconds:.0f} s; look at what it says, or whether it was started"
                )
            time.sleep(POLL)
            spoken = store.add(COUNT, 0)
        if not store.check([FAILURE]):
            return
        rank, text = json.loads(store.get(FAILURE))
    except RuntimeError as error:
        raise UserError(f"rank 0 left before all ranks were there: {str(error).splitlines()[0]}") from None
    if not own.local_main:
        raise SystemExit(2)
    raise UserError(f"rank {rank}: {text}")


def _give_up(seconds: float) -> None:
    """The main thread waits for a rank that came and has died since."""
    text = f"error: all ranks came, but their process group is not there {seconds:.0f} s later; look at what each says"
    print(text, file=sys.stderr, flush=True)
    os._exit(1)
