"""Starts a transfer from heads that `hmgan align` pulled to the source (Eq. 6), in place of the closed form."""

from __future__ import annotations

from pathlib import Path

from hmgan.config.experiment import Experiment
from hmgan.errors import UserError
from hmgan.generators.base import Generator
from hmgan.generators.snapshot import load_generator, newest_snapshot
from hmgan.generators.source import GENERATOR, Source, load_exactly


def start_aligned(generator: Generator, experiment: Experiment, source: Source | None, classes: int) -> None:
    """Loads the class net and the modulation of `experiment.aligned`, a run or a snapshot of `hmgan align`.

    Raises: UserError if random heads are left as they are, or if the snapshot is of another source or other parts.
    """
    if source is None:
        return
    choice, where = experiment.modulation, f"aligned {experiment.aligned}"
    if experiment.aligned is None:
        if choice is not None and choice.options.get("init") == "align":
            raise UserError(
                "modulation.init is 'align', which starts from random heads; run hmgan align with this experiment "
                "first, then hmgan train with --set aligned=RUN; init 'random' trains such heads unaligned"
            )
        return
    if choice is None:
        raise UserError("aligned starts a modulation, and there is none to start; leave it out to fine-tune the source")
    loaded = load_generator(experiment.aligned)
    if loaded.transfer is None:
        raise UserError(f"{where} is unconditional; give a run of hmgan align")
    for name in ("class_net", "modulation"):
        wanted, got = _as_built(getattr(experiment, name).model_dump()), _as_built(loaded.config[name])
        if wanted != got:
            raise UserError(f"{where} has {name} {got}, the experiment {wanted}; align it again")
    if len(loaded.classes) != classes:
        raise UserError(f"{where} has {len(loaded.classes)} classes, the data {classes}; align it again")
    if loaded.config.get("source_sha256") != source.digest:
        raise UserError(f"{where} is of another source, {loaded.config.get('source')}; align this one again")
    file = newest_snapshot(Path(experiment.aligned)) / GENERATOR
    for name in ("class_net", "modulation"):
        load_exactly(generator.trained.get_submodule(name), loaded.transfer.trained[name].state_dict(), file)


def _as_built(choice: dict[str, object]) -> dict[str, object]:
    """What decides the parts' function: a choice without where they start, when weights are normalised, and a limit."""
    return {key: value for key, value in choice.items() if key not in ("init", "live", "largest")}
