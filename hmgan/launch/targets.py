"""From a job to the command that carries it out, one function per target. Nothing is started here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hmgan.files import launch_file
from hmgan.launch import kubernetes


class Job(NamedTuple):
    """What to run where.

    Args:
        common: hmgan's own options, which stand before the verb.
        rest: the experiment and its options.
        nodes, gpus: machines, at most, and ranks on each.
        image: the container image of Kubernetes pods.
    """

    common: tuple[str, ...]
    verb: str
    rest: tuple[str, ...]
    nodes: int
    gpus: int
    image: str
    least: int  # machines that it goes on with; fewer than `nodes` where they may leave and join

    @property
    def elastic(self) -> bool:
        """Whether machines may leave and join."""
        return self.least < self.nodes

    @property
    def machines(self) -> str:
        """How many, as options say it."""
        return f"{self.least}:{self.nodes}" if self.elastic else str(self.nodes)

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.common, self.verb, *self.rest)

    @property
    def name(self) -> str:
        return f"hmgan-{self.rest[0]}"


class Plan(NamedTuple):
    """A complete command.

    Args:
        environment: variables that it is given beside those of `hmgan launch`.
        script: the shell script in it, to be checked.
        manifest: what it reads from its standard input.
        each: the variables with which it has to be run on each machine; none: it is run once.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    script: Path | None = None
    manifest: str = ""
    each: tuple[str, ...] = ()


class LaunchTarget(NamedTuple):
    """A way to launch.

    Args:
        there: whether what it needs is installed, and `without`: what to say where it is not.
        elsewhere: it runs in an installation other than this one.
        requeues: a scheduler starts the same command again, so that the run must resume by itself.
        elastic: machines may leave and join.
    """

    plan: Callable[[Job], Plan]
    there: Callable[[], object] = lambda: shutil.which("bash")
    without: str = "bash is not there; install it"
    elsewhere: bool = False
    requeues: bool = False
    elastic: bool = False


def by_script(name: str, job: Job) -> Plan:
    """A script that starts this machine's ranks, and is told by its environment how many."""
    script = launch_file(name)
    size = {"NODES": job.machines, "GPUS": str(job.gpus)} | own_python()
    ranked = () if job.elastic else ("NODE_RANK",)  # by torchrun, where they may leave and join
    each = (*ranked, "MASTER_ADDR") if job.nodes > 1 else ()
    return Plan(("bash", shown(script), *job.words), size, script, each=each)


def slurm(job: Job) -> Plan:
    """A batch job with a task for each rank."""
    script = launch_file("slurm.sbatch")
    size = (f"--nodes={job.nodes}", f"--ntasks-per-node={job.gpus}", f"--gpus-per-node={job.gpus}")
    return Plan(("sbatch", f"--job-name={job.name}", *size, shown(script), *job.words), own_python(), script)


def k8s(job: Job) -> Plan:
    """A pod for each machine, which starts the machine's ranks as on any other one."""
    size = ("--nodes", str(job.nodes), "--gpus", str(job.gpus))
    command = ("hmgan", *job.common, "launch", "--target", "torchrun", *size)
    manifest = kubernetes.filled(job.name, job.nodes, job.gpus, job.image, command, job.rest)
    return Plan(("kubectl", "apply", "-f", "-"), manifest=manifest)


def shown(path: Path) -> str:
    """The path, shorter where it lies below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def own_python() -> dict[str, str]:
    """This very interpreter, where `python` would be another one."""
    mine = str(Path(sys.executable).with_name("python"))
    return {} if shutil.which("python") == mine else {"PYTHON": sys.executable}


TARGETS = {
    "local": LaunchTarget(partial(by_script, "accelerate.sh")),
    "torchrun": LaunchTarget(partial(by_script, "torchrun.sh"), elastic=True),
    "deepspeed": LaunchTarget(
        partial(by_script, "deepspeed.sh"),
        lambda: find_spec("deepspeed"),
        "deepspeed is not installed; pip install 'hmgan[deepspeed]', or take --target torchrun",
    ),
    "slurm": LaunchTarget(
        slurm,
        lambda: shutil.which("sbatch"),
        "sbatch is not there; run this where SLURM jobs are submitted, or print it with --dry-run",
        requeues=True,
    ),
    "k8s": LaunchTarget(
        k8s,
        lambda: shutil.which("kubectl"),
        "kubectl is not there; install it, or hand on what --dry-run prints",
        elsewhere=True,
        requeues=True,
    ),
}
