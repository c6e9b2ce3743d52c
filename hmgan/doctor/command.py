"""`hmgan doctor`: every probe once, on all the ranks that it is started on."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch.distributed as dist
from rich.console import Console

from hmgan.config import experiment as config
from hmgan.doctor import page
from hmgan.doctor.devices import devices, place
from hmgan.doctor.environment import environment
from hmgan.doctor.memory import memory
from hmgan.doctor.network import network
from hmgan.doctor.section import Section
from hmgan.doctor.software import software, versions
from hmgan.doctor.storage import storage
from hmgan.train.command import Shortcuts, placed
from hmgan.train.distributed.rendezvous import rank_info
from hmgan.train.distributed.runtime import Runtime

PATIENCE = 300.0  # seconds for one rank to wait for another


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorOptions:
    """What `hmgan doctor` was asked for.

    Args:
        experiment: that has to fit into memory; None: none has to.
        outdir: that run directories would be made in.
        data, source, batch: the experiment's, as for `hmgan train`.
        overrides: A.B=C, in their order.
    """

    experiment: str | None
    outdir: Path
    data: list[str] | None
    source: str | None
    batch: int | None
    overrides: Sequence[str]


def doctor(options: DoctorOptions, console: Console | None = None) -> bool:
    """Prints the page on rank 0, and tells every rank whether all is well.

    Raises: UserError for options that do not fit the experiment.
    """
    name = options.experiment
    experiment = None
    if name is not None:
        given = placed(Shortcuts(data=options.data, source=options.source, batch=options.batch))
        experiment = config.anchored(config.load(name, options.overrides, given))
    data = experiment.data if experiment is not None else config.data_of(options.data)
    variables = environment()
    try:
        runtime = Runtime(timeout=PATIENCE)
    except Exception as error:  # whatever a backend raises: the page says it
        alone = rank_info()
        if alone is None or alone.local_main:  # where ranks cannot be joined, one page per machine
            world = 1 if alone is None else alone.world
            page.show(title(world), [software([versions()]), variables, unjoined(error)], console)
        return False
    places = gathered(runtime, place(runtime.device))
    variables.problems[:] = dict.fromkeys(line for lines in gathered(runtime, variables.problems) for line in lines)
    sections = [software(gathered(runtime, versions())), devices(places), network(runtime.device)]
    found = storage(options.outdir, data) if runtime.main else Section.empty("storage")
    runtime.wait()
    found.problems.extend(unseen(runtime, options.outdir, [place.host for place in places]))
    sections += [found, variables]
    if name is not None and experiment is not None:
        sections.append(memory(name, experiment, runtime, places))
    healthy = bool(runtime.share(not any(section.problems for section in sections)))
    if runtime.main:
        page.show(title(runtime.world), sections, console)
    runtime.accelerator.end_training()
    return healthy


def title(world: int) -> str:
    ranks = "1 rank" if world == 1 else f"{world} ranks"
    return f"hmgan doctor  {socket.gethostname()}, {ranks}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def gathered(runtime: Runtime, own: Any) -> list[Any]:
    """Every rank's value, on every rank."""
    everyone = [own] * runtime.world
    if runtime.world > 1:
        dist.all_gather_object(everyone, own)
    return everyone


def unseen(runtime: Runtime, outdir: Path, hosts: list[str]) -> list[str]:
    """Ranks resume from what rank 0 has written: on several machines they must all see the same folder."""
    if len(set(hosts)) == 1:
        return []
    there = next(folder for folder in (outdir.absolute(), *outdir.absolute().parents) if folder.is_dir())
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


def unjoined(error: Exception) -> Section:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    problem = f"the ranks cannot be joined: {reason}; look at MASTER_ADDR, MASTER_PORT and GLOO_SOCKET_IFNAME"
    return Section("network", [], [problem])
