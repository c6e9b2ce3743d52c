"""`hmgan classes`: a model's classes listed, renamed, dropped and added to; those that are left stay as they are."""

from __future__ import annotations

from pathlib import Path

from hmgan.commands.add_class import add
from hmgan.errors import UserError, some_of, unknown
from hmgan.generators.joining import check_name, forget, joined_of, save, state_of
from hmgan.generators.snapshot import Loaded, generator_folder, load_generator
from hmgan.generators.source import GENERATOR, read_tensors
from hmgan.options.models import ClassesOptions

# How many words behind an action, and what they are.
TAKES = {
    "list": (0, "no more words"),
    "add": (1, "IMAGES or a finished RUN"),
    "drop": (1, "NAME"),
    "rename": (2, "OLD NEW"),
}


def classes(options: ClassesOptions) -> None:
    """Runs one action. Raises UserError for another one, and for classes that are not there or there already."""
    action, words, out = options.action, options.names, options.out
    if action not in TAKES:
        raise unknown("action", action, TAKES)
    count, wanted = TAKES[action]
    if len(words) != count:
        raise UserError(f"hmgan classes MODEL {action} takes {wanted}, got {' '.join(words) or 'none'}")
    loaded = load_generator(options.model)
    if action == "list":
        print("\n".join(loaded.classes))
        return
    if loaded.transfer is None:
        raise UserError(f"{options.model} is unconditional and has no classes; give a transfer")
    if out is None:
        raise UserError(f"--out names the new folder of what {action} makes; {options.model} stays as it is")
    if out.exists():
        raise UserError(f"{out} exists already; give a new folder")
    if action == "add":
        add(options, out, loaded, Path(words[0]))
        return
    if words[0] not in loaded.classes:
        raise unknown("class", words[0], loaded.classes)
    if action == "drop":
        drop(options.model, out, loaded, words[0])
    else:
        rename(options.model, out, loaded, *words)


def drop(model: Path, out: Path, loaded: Loaded, name: str) -> None:
    """Writes the model without a class, and without its numbers where no other class needs them."""
    if len(loaded.classes) < 2:
        raise UserError(f"{name} is the only class; a model needs one")
    kept = [place for place, each in enumerate(loaded.classes) if each != name]
    names = [loaded.classes[place] for place in kept]
    state, parts = state_of(loaded, generator_folder(model)), joined_of(loaded.config, kept)
    stay = forget(state, parts["modulation"])
    save(out, loaded, parts, names, state, {each: x for each, x in loaded.centres.items() if each != name})
    print(f"{out}: {some_of(names)}")
    print(f"the numbers of {name} " + (f"stay in the file: {stay}" if stay else "are gone from the file"))


def rename(model: Path, out: Path, loaded: Loaded, old: str, new: str) -> None:
    """Writes the model with a class under another name."""
    check_name(new, loaded.classes)
    names = [new if each == old else each for each in loaded.classes]
    centres = {new if each == old else each: x for each, x in loaded.centres.items()}
    save(out, loaded, {}, names, read_tensors(generator_folder(model) / GENERATOR), centres)
    print(f"{out}: {some_of(names)}")
