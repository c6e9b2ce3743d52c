"""From an order to the command that carries it out, one function per target. Nothing is started here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hmgan.files import launch_file
from hmgan.launch import kubernetes
from hmgan.launch.files import shown


class Order(NamedTuple):
    """What to run where.

    Args:
        common: hmgan's own options, which stand before the verb.
        rest: the experiment and its options.
        nodes, gpus: machines, and ranks on each.
        image: the container image of Kubernetes pods.
    """

    common: tuple[str, ...]
    verb: str
    rest: tuple[str, ...]
    nodes: int
    gpus: int
    image: str

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.common, self.verb, *self.rest)

    @property
    def name(self) -> str:
        return f"hmgan-{self.rest[0]}"


class Plan(NamedTuple):
    """A command, whole.

    Args:
        environment: what it is given beside the environment of `hmgan launch`.
        script: the shell script in it, to be checked.
        manifest: what it reads from its standard input.
        each: it has to be run on each machine.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    script: Path | None = None
    manifest: str = ""
    each: bool = False


class Target(NamedTuple):
    """A way to launch.

    Args:
        there: whether what it needs is installed, and `without`: what to say where it is not.
        requeues: a scheduler starts the same command again, so that it has to go on by itself.
    """

    plan: Callable[[Order], Plan]
    there: Callable[[], object]
    without: str
    requeues: bool = False


def by_script(name: str) -> Callable[[Order], Plan]:
    """A script that starts this machine's ranks, and is told how many by its environment."""

    def plan(order: Order) -> Plan:
        script = launch_file(name)
        size = {"NODES": str(order.nodes), "GPUS": str(order.gpus)} | own_python()
        return Plan(("bash", shown(script), *order.words), size, script, each=order.nodes > 1)

    return plan


def slurm(order: Order) -> Plan:
    script = launch_file("slurm.sbatch")
    size = (f"--nodes={order.nodes}", f"--ntasks-per-node={order.gpus}", f"--gpus-per-node={order.gpus}")
    command = ("sbatch", f"--job-name={order.name}", *size, shown(script), *order.words)
    return Plan(command, own_python(), script)


def k8s(order: Order) -> Plan:
    # Inside a pod the machine's ranks are started as on any other machine.
    size = ("--nodes", str(order.nodes), "--gpus", str(order.gpus))
    command = ("hmgan", *order.common, "launch", "--target", "torchrun", *size)
    manifest = kubernetes.filled(order.name, order.nodes, order.gpus, order.image, command, order.rest)
    return Plan(("kubectl", "apply", "-f", "-"), manifest=manifest)


def own_python() -> dict[str, str]:
    """This very interpreter, where `python` would be another one."""
    mine = str(Path(sys.executable).with_name("python"))
    return {} if shutil.which("python") == mine else {"PYTHON": sys.executable}


TARGETS = {
    "local": Target(by_script("accelerate.sh"), lambda: shutil.which("bash"), "bash is not there; install it"),
    "torchrun": Target(by_script("torchrun.sh"), lambda: shutil.which("bash"), "bash is not there; install it"),
    "deepspeed": Target(
        by_script("deepspeed.sh"),
        lambda: find_spec("deepspeed"),
        "deepspeed is not installed; pip install 'hmgan[deepspeed]', or take --target torchrun",
    ),
    "slurm": Target(
        slurm,
        lambda: shutil.which("sbatch"),
        "sbatch is not there; run this where SLURM jobs are submitted, or print it with --dry-run",
        requeues=True,
    ),
    "k8s": Target(
        k8s,
        lambda: shutil.which("kubectl"),
        "kubectl is not there; install it, or hand on what --dry-run prints",
        requeues=True,
    ),
}
