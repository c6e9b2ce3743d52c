"""Options of the verbs that train and report."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from hmgan.options.shared import Seed, Set


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """Transfers the embedded clothing GAN to shoes and bags, and writes a report; minutes on two CPU cores.

    For example: hmgan demo --outdir demo
    """

    outdir: Annotated[Path, Option(help="A new folder for the demo.")] = Path("demo")
    experiment: Annotated[str | None, Option(help="The transfer to show; left out: demo.")] = None
    seed: Seed = None
    resume: Annotated[str | None, Option(help="The run directory of a demo that was stopped, or `latest`.")] = None
    overrides: Set = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """Trains a study's methods on its targets, going on where it was stopped, and reports them side by side.

    Several processes, on one machine or on several, may run the same study in the same folder.

    For example: hmgan compare smoke --dry-run
    """

    study: Annotated[str, Argument(help="A name of `hmgan list studies`.")]
    outdir: Annotated[Path | None, Option(help="Folder of the study; left out: studies/STUDY.")] = None
    rows: Annotated[str | None, Option(help="Only these methods, for example hyper-mod-b,adain.")] = None
    targets: Annotated[str | None, Option(help="Only these targets.")] = None
    seeds: Annotated[str | None, Option(help="Only these seeds, for example 0,2-4.")] = None
    workers: Annotated[str | None, Option(help="Cells at once: a number, cpu:N or cuda:N, or both: cuda:3,cpu:2.")] = (
        None
    )
    minutes: Annotated[float | None, Option(min=0, help="Stop after so long, to be gone on with.")] = None
    report_only: Annotated[bool, Option("--report-only", help="Run nothing; report what is finished.")] = False
    overrides: Set = field(default_factory=list)
    dry_run: Annotated[bool, Option("--dry-run", "-n", help="Say how far each cell is; run nothing.")] = False
    paths: bool = False  # measure path lengths, too

    @property
    def folder(self) -> Path:
        """The study's."""
        return self.outdir or Path("studies") / self.study

    def line(self) -> str:
        """The command that makes the whole study, as the report quotes it."""
        given = "".join(f" --set {shlex.quote(override)}" for override in self.overrides)
        return f"hmgan compare {self.study} --outdir {self.folder}{given}"
