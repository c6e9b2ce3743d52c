"""`hmgan launch` on the command line. Heavy imports live inside, so that --help answers at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

# What comes after EXPERIMENT is for `hmgan train` to read.
TRAINS_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def launch(
    context: typer.Context,
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT [OPTIONS OF hmgan train]")],
    target: Annotated[str, typer.Option(help="local, torchrun, slurm, k8s or deepspeed.")] = "local",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus: Annotated[int | None, typer.Option(min=1, help="Ranks per machine; left out: this one's GPUs, or 1.")] = None,
    image: Annotated[str, typer.Option(help="Container image of Kubernetes pods.")] = "hmgan:latest",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be run; run nothing.")] = False,
) -> None:
    """Trains on many GPUs and machines: accelerate, torchrun, DeepSpeed, SLURM or Kubernetes.

    Its own options come before EXPERIMENT. What comes after is the training's, and is checked before anything starts.
    """
    from hmgan.launch.command import launch as run

    group: Any = context.find_root().command
    run(
        experiment,
        context.args,
        commands=group.commands,
        target=target,
        nodes=nodes,
        gpus=gpus,
        image=image,
        dry_run=dry_run,
    )
