"""`hmgan show`: an entry as TOML; of an experiment or a component every setting, its meaning and its default."""

from __future__ import annotations

import tomli_w

from hmgan.config import entries
from hmgan.config.commented import commented, commented_choice
from hmgan.config.experiment import CHOICES
from hmgan.config.loading import choose, load_experiment, to_table
from hmgan.errors import UserError, unknown
from hmgan.options.data import ShowOptions


def print_entry(options: ShowOptions) -> None:
    """An experiment resolved to its last setting, or any other entry, as TOML.

    Raises: UserError with the nearest spelling for a name that no kind has.
    """
    name, overrides = options.name, options.overrides
    kinds = [kind for kind in entries.FOLDERS if name in entries.known(kind)]
    if not kinds:
        everything = {each for kind in entries.FOLDERS for each in entries.known(kind)}
        raise unknown("entry", name, everything)
    if overrides and "experiment" not in kinds:
        raise UserError(f"--set changes experiments, and {name!r} is a {kinds[0]}; leave it out")
    print("\n".join(f"# {kind} {name}\n{_text(kind, name, overrides)}" for kind in kinds), end="")


def _text(kind: str, name: str, overrides: list[str]) -> str:
    if kind == "experiment":
        hint = "# Change any of it with --set, for example --set train.kimg=100.\n"
        return hint + commented(to_table(load_experiment(name, overrides)))
    if kind in entries.DATA_ONLY:
        return tomli_w.dumps(entries.entry(kind, name))
    key = next(key for key, each in CHOICES.items() if each == kind)
    return commented_choice(key, choose(kind, name, {}))
