"""`hmgan doctor`: every probe once, on all the ranks that it is started on."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from rich.console import Console

from hmgan.config.loading import anchored, data_of, load_experiment, settings
from hmgan.doctor import page
from hmgan.doctor.devices import devices, rank_device
from hmgan.doctor.environment import environment
from hmgan.doctor.memory import memory
from hmgan.doctor.network import network
from hmgan.doctor.probe import ProbeResult
from hmgan.doctor.software import software, versions
from hmgan.doctor.source import is_source, source
from hmgan.doctor.storage import check_writable, existing, storage
from hmgan.options.training import DoctorOptions
from hmgan.train.distributed.rendezvous import failure_announced, rank_info
from hmgan.train.distributed.runtime import Runtime

PATIENCE = 300.0  # seconds for one rank to wait for another

T = TypeVar("T")


def doctor(options: DoctorOptions, console: Console | None = None) -> bool:
    """Prints the page on rank 0, and tells every rank whether all is well.

    Raises: UserError for options that do not fit the experiment, or an --outdir that cannot be written.
    """
    name, experiment = options.experiment, None
    if name is not None and is_source(name):
        sections = [source(name)]
        page.show(title(1), sections, console)
        return not sections[0].problems
    with failure_announced():
        check_writable(options.outdir)
        if name is not None:
            experiment = anchored(load_experiment(name, options.overrides, settings(options)))
        data = experiment.data if experiment is not None else data_of(options.data)
    variables = environment()
    try:
        runtime = Runtime(timeout=PATIENCE)
    except Exception as error:  # whatever a backend raises: the page says it
        alone = rank_info()
        if alone is None or alone.local_main:  # where ranks cannot be joined, one page per machine
            world = 1 if alone is None else alone.world
            page.show(title(world), [software([versions()]), variables, unjoined(error)], console)
        return False
    ranks = gathered(runtime, rank_device(runtime.device))
    variables.problems = list(dict.fromkeys(line for lines in gathered(runtime, variables.problems) for line in lines))
    sections = [software(gathered(runtime, versions())), devices(ranks), network(runtime.device)]
    stored = storage(options.outdir, data) if runtime.main else ProbeResult("storage")
    runtime.wait()
    stored.problems += unseen(runtime, options.outdir, [rank.host for rank in ranks])
    sections += [stored, variables]
    if name is not None and experiment is not None:
        sections.append(memory(name, experiment, runtime, ranks))
    healthy = bool(runtime.share(not any(section.problems for section in sections)))
    if runtime.main:
        page.show(title(runtime.world), sections, console)
    runtime.accelerator.end_training()
    return healthy


def title(world: int) -> str:
    """The page's first line."""
    ranks = "1 rank" if world == 1 else f"{world} ranks"
    return f"hmgan doctor  {socket.gethostname()}, {ranks}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def gathered(runtime: Runtime, own: T) -> list[T]:
    """Every rank's value, on every rank."""
    everyone = [own] * runtime.world
    if runtime.world > 1:
        dist.all_gather_object(everyone, own)
    return everyone


def unseen(runtime: Runtime, outdir: Path, hosts: list[str]) -> list[str]:
    """Machines that do not see rank 0's folder, from which every rank would resume."""
    if len(set(hosts)) == 1:
        return []
    there = existing(outdir)
    mark = runtime.share(there / f".hmgan-doctor-{socket.gethostname()}-{os.getpid()}")
    try:
        if runtime.main and os.access(there, os.W_OK):
            mark.touch()
        runtime.wait()
        seen = gathered(runtime, mark.exists())
        runtime.wait()
    finally:
        if runtime.main:
            mark.unlink(missing_ok=True)
    blind = dict.fromkeys(host for host, sees in zip(hosts, seen, strict=True) if seen[0] and not sees)
    return [f"--outdir {outdir} of {hosts[0]} is not seen by {host}; give a folder that all share" for host in blind]


def unjoined(error: Exception) -> ProbeResult:
    """In place of the network's section, where the ranks never met."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    problem = f"the ranks cannot be joined: {reason}; look at MASTER_ADDR, MASTER_PORT and GLOO_SOCKET_IFNAME"
    return ProbeResult("network", problems=[problem])
