"""Two machines in one: network namespaces joined by a cable, as far as the network goes. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


def impossible() -> str:
    """Why namespaces cannot be made here; empty where they can."""
    if shutil.which("ip") is None:
        return "no `ip` command; install iproute2"
    probe = f"hmgan-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespace can be made: {done.stderr.strip()}"
    done = subprocess.run(
        ["ip", "-n", probe, "link", "add", "name", "cable0", "type", "veth", "peer", "name", "cable1"],
        capture_output=True,
        text=True,
    )
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return f"no cable between namespaces: {done.stderr.strip()}" if done.returncode else ""


class Machine:
    """A namespace with one address, and the words that run a command in it."""

    def __init__(self, name: str, interface: str, address: str) -> None:
        self.interface, self.address = interface, address
        self.inside = ("ip", "netns", "exec", name)


@contextmanager
def two() -> Iterator[tuple[Machine, Machine]]:
    """Two machines that see each other and nothing else."""
    names = [f"hmgan{i}-{os.getpid()}" for i in range(2)]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("-n", names[0], "link", "add", "name", "cable0", "type", "veth", "peer", "name", "cable1", "netns", names[1])
        machines = Machine(names[0], "cable0", "10.77.0.1"), Machine(names[1], "cable1", "10.77.0.2")
        for name, machine in zip(names, machines, strict=True):
            ip("-n", name, "address", "add", f"{machine.address}/24", "dev", machine.interface)
            for interface in ("lo", machine.interface):
                ip("-n", name, "link", "set", interface, "up")
        yield machines
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
