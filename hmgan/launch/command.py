"""`hmgan launch`: checks an experiment's options, says what it will run, and runs or submits it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence

import torch

from hmgan.config import entries
from hmgan.config.loading import load_experiment
from hmgan.errors import UserError, unknown
from hmgan.launch.targets import TARGETS, Job, LaunchTarget, Plan
from hmgan.options.training import TRAINING, LaunchOptions, TrainOptions
from hmgan.train.command import AUTO, configured, lengthened
from hmgan.train.draws import microbatch_size
from hmgan.train.engines.choose import check_installed
from hmgan.train.tasks import build as tasks

OWN = ("--target", "--nodes", "--gpus", "--image", "--dry-run", "-n")
# From a verb, its options and the words after it, to what it would train.
Read = Callable[[str, type[TrainOptions], Sequence[str]], TrainOptions]


def launch(options: LaunchOptions, read: Read) -> None:
    """Starts an experiment on many GPUs and machines. `read` must read options as the training itself will.

    Raises: UserError before anything is started, for whatever is wrong with the options.
    """
    experiment, rest, (least, nodes) = options.experiment, options.context.args, machines(options.nodes)
    target = TARGETS.get(options.target)
    if target is None:
        raise unknown("target", options.target, TARGETS)
    if least < nodes and not target.elastic:
        raise UserError(
            f"--target {options.target} takes one number of machines, got --nodes {options.nodes}; "
            "take --target torchrun, or give one number"
        )
    for word in rest:
        if word in OWN:
            raise UserError(f"{word} after EXPERIMENT would be the training's own; put it before EXPERIMENT")
    verb = tasks.verb(load_experiment(experiment))
    gpus = options.gpus or max(1, torch.cuda.device_count())
    training = read(verb, TRAINING[verb], [experiment, *rest])
    if training.resume in (None, AUTO):  # another run has a configuration of its own
        configuration = configured(training)
        microbatch_size(configuration.train, nodes * gpus)
    if not (options.dry_run or target.elsewhere):
        if training.resume not in (None, AUTO):
            _, configuration = lengthened(training, training.resume)
        check_installed(configuration)
    if (target.requeues or least < nodes) and not training.resume:
        rest = [*rest, "--resume", AUTO]
    common = tuple(word for folder in entries.added() for word in ("--registry", str(folder)))
    job = Job(common, verb, (experiment, *rest), nodes, gpus, options.image, least)
    plan = target.plan(job)
    validate(plan)
    if not options.dry_run:
        ready(target, plan, job)
    sys.stdout.write(printed(plan, job))
    sys.stdout.flush()
    if not options.dry_run:
        run(plan)


def machines(given: str) -> tuple[int, int]:
    """The fewest and the most of --nodes N or MIN:MAX. Raises UserError for anything else."""
    matched = re.fullmatch(r"(\d+)(?::(\d+))?", given, re.ASCII)
    least, most = (int(matched[1]), int(matched[2] or matched[1])) if matched else (0, 0)
    if not 1 <= least <= most:
        raise UserError(f"--nodes is a number of machines from 1, or MIN:MAX, got {given!r}")
    return least, most


def validate(plan: Plan) -> None:
    """Raises UserError where bash cannot parse the script; a manifest was checked when it was written."""
    if plan.script is not None:
        check = subprocess.run(["bash", "-n", str(plan.script)], capture_output=True, text=True, check=False)
        if check.returncode:
            raise UserError(f"{plan.script} is damaged: {check.stderr.strip().splitlines()[0]}; install hmgan again")


def told(plan: Plan, job: Job) -> str:
    """What each machine must set, in words."""
    words = {"NODE_RANK": f"NODE_RANK (0 to {job.nodes - 1})", "MASTER_ADDR": "MASTER_ADDR (the first one)"}
    return " and ".join(words[name] for name in plan.each)


def printed(plan: Plan, job: Job) -> str:
    """The command as it can be pasted into a shell."""
    variables = [f"{key}={shlex.quote(value)}" for key, value in plan.environment.items()]
    line = " ".join([*variables, shlex.join(plan.command)])
    if plan.manifest:
        return f"{line} <<'EOF'\n{plan.manifest}EOF\n"
    if plan.each:
        count = f"{job.least} to {job.nodes}" if job.elastic else job.nodes
        return f"# on each of {count} machines, with {told(plan, job)} set\n{line}\n"
    return f"{line}\n"


def ready(target: LaunchTarget, plan: Plan, job: Job) -> None:
    """Raises UserError for a program or a variable that this machine lacks."""
    if not target.there():
        raise UserError(target.without)
    missing = [name for name in plan.each if name not in os.environ]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not set: with --nodes {job.machines} run this on each machine, with "
            f"{told(plan, job)}; or take --target slurm or k8s"
        )


def run(plan: Plan) -> None:
    """Becomes the command; with a manifest, exits as the command does."""
    if plan.manifest:
        raise SystemExit(subprocess.run(plan.command, input=plan.manifest, text=True, check=False).returncode)
    os.execvpe(plan.command[0], plan.command, {**os.environ, **plan.environment})
