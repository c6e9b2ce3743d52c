"""`hmgan import`: a foreign checkpoint becomes a source, with a report of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.files import sha256_of, write_folder_atomically
from hmgan.generators.source import CONDITIONAL, DISCRIMINATOR, FORMAT, GENERATOR, component, write
from hmgan.generators.transfer import TransferGenerator
from hmgan.importers.foreign import Checkpoint, Conditional, File, NetworkPlan, no_reason
from hmgan.importers.formats import FORMATS, recognised
from hmgan.importers.import_report import ImportReport, LeftOut, Match, show
from hmgan.importers.pickled.content import Content, opened
from hmgan.importers.pickled.nodes import UnreadableError, described
from hmgan.layers.backbone import Backbone

REPORT = "report.txt"
COMPONENTS: dict[str, tuple[Any, ...]] = {"generator": ("backbone",), "discriminator": ("discriminator", 1)}
STATES = {"generator": ("backbone", GENERATOR), "discriminator": ("discriminator", DISCRIMINATOR)}
KNOWN = "; or ".join(one.name for one in FORMATS)


class Converted(NamedTuple):
    """A network of ours with the checkpoint's weights, and what became of the checkpoint's tensors."""

    choice: Choice
    network: nn.Module
    state: dict[str, Tensor]
    matched: list[Match]
    new: list[str]
    left_out: list[LeftOut]


class Whole(NamedTuple):
    """A conditional generator's state, the choices of its parts, and what its tensors came from."""

    choices: dict[str, Any]
    state: dict[str, Tensor]
    matched: list[Match]


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    resolution: int | None = None,
    stddev_group: int | None = None,
    report: Callable[[ImportReport], object] = show,
) -> ImportReport:
    """Converts the generator (its moving average, where there is one) and the discriminator of a checkpoint.

    Args:
        out: a new folder; it appears once it is whole.
        resolution: output pixels, of a StyleGAN1; the highest that the file has a to-RGB layer for where left out.
        stddev_group: the discriminator's setting; what the file says, or else 4, where left out. 0 takes the whole
            batch, as StyleGAN1's port does, on one rank alone.
        report: called with the finished report, which `out` also keeps as report.txt.

    Raises: UserError for anything but a new folder and a file of a known format. Nothing is written then.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; give a new folder or move it away")
    if stddev_group is not None and stddev_group < 0:
        raise UserError(f"stddev_group must be 0 (the whole batch) or a number of samples, got {stddev_group}")
    with readable(path), opened(path) as content:
        name, read = read_file(path, content, resolution, stddev_group)
    converted = {plan.network: convert(plan) for plan in read.plans}
    whole = None if read.conditional is None else convert_conditional(converted["generator"], read.conditional)
    matched = [match for one in converted.values() for match in one.matched] + (whole.matched if whole else [])
    theirs = {match.theirs for match in matched}
    left = [entry for one in converted.values() for entry in one.left_out if entry.theirs not in theirs]
    digest = sha256_of(path)
    done = ImportReport(
        title=f"{path.name}: {' and '.join(converted)} at {read.size}, sha256 {digest}",
        notes=(f"read as {name}", *read.notes),
        matched=tuple(matched),
        new=tuple(new for one in converted.values() for new in one.new),
        left_out=(*read.unused, *left),
    )
    origin = {"imported_from": path.name, "imported_sha256": digest, "imported_weights": read.weights}
    choices = {STATES[network][0]: one.choice.model_dump() for network, one in converted.items()}
    states = {STATES[network][1]: one.state for network, one in converted.items()}
    config = {"format": FORMAT, **origin, **choices}
    if whole is not None:
        config = {**config, "format": CONDITIONAL, **whole.choices}
        states = {GENERATOR: whole.state}

    def fill(folder: Path) -> None:
        (folder / REPORT).write_text(done.text(), encoding="utf-8")
        write(folder, config, states, torch.float32)

    try:
        write_folder_atomically(out, fill)
    except OSError as error:
        problem = error.strerror or error
        raise UserError(f"{out} cannot be written: {problem}; give a folder on a disk with room") from None
    report(done)
    return done


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What a file's bytes, or the system, say against it, as one line. Raises UserError."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not there"
        raise UserError(f"{path} {kind}; give the checkpoint file")
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    except UnreadableError as error:
        with path.open("rb") as file:
            head = file.read(256).lstrip()
        if head.startswith(b"<"):
            raise UserError(f"{path} is a web page; download the file that the page links to") from None
        raise UserError(f"{path} {error}; {error.advice}") from None


def read_file(path: Path, content: Content, resolution: int | None, stddev_group: int | None) -> tuple[str, Checkpoint]:
    """The name of a file's format, and its plan. Raises UnreadableError or UserError for a file of none."""
    found = recognised(content)
    if found is None:
        if content.unknown and content.mapping(content.root) is None:
            raise content.unknown_at("", content.root)
        raise UnreadableError(f"holds {described(content.root)} and no generator that is known", f"give {KNOWN}")
    return found.name, found.read(File(str(path), content), resolution, stddev_group)


def convert(plan: NetworkPlan) -> Converted:
    """A network of ours, by its plan. Raises UserError for a missing, misshapen or non-finite tensor."""
    theirs = plan.theirs
    choice, (kind, *parts) = Choice(name=plan.component, **plan.options), COMPONENTS[plan.network]
    # Without memory at first: a file of the wrong widths can ask for any amount.
    with torch.device("meta"):
        empty: nn.Module = component(kind, choice, *parts)
    shapes = {key: tuple(tensor.shape) for key, tensor in empty.state_dict().items()}
    state, matched = {}, []
    for pair in plan.pairs:
        shape = tuple(theirs.changed(pair).shape) if pair.ours in plan.head else shapes.get(pair.ours)
        if shape is None:
            no_reason(theirs, pair.theirs)
        state[pair.ours] = theirs.fitting(pair, shape)
        matched.append(Match(plan.network, pair.ours, theirs.full_name(pair.theirs), shape, pair.note()))
    for name in shapes:
        if name not in state and name not in plan.new and not (plan.head and name.startswith("head.")):
            raise theirs.refused(name, "be in the file, got nothing")
    network = loaded(component(kind, choice, *parts), plan, state)
    if not plan.head:
        state = network.state_dict()
    new = [f"{plan.network} {name}: {made.note}" for name, made in plan.new.items()]
    rest = [key for key in theirs.tensors if key not in {pair.theirs for pair in plan.pairs}]
    left_out = [LeftOut(plan.network, theirs.full_name(key), plan.reason(key)) for key in rest]
    return Converted(choice, network, state, matched, new, left_out)


def convert_conditional(source: Converted, plan: Conditional) -> Whole:
    """A source with its class net and heads. Raises UserError for a missing, misshapen or non-finite tensor."""
    class_net = component("class-net", plan.class_net, plan.classes)
    modulation = component("modulation", plan.modulation, source.network, class_net.dim)
    generator = TransferGenerator(cast(Backbone, source.network), class_net, modulation)
    own, matched = generator.trained.state_dict(), []
    for theirs, pair in plan.pairs:
        shape = tuple(own[pair.ours].shape)
        own[pair.ours].copy_(theirs.fitting(pair, shape))
        matched.append(Match("conditional", pair.ours, theirs.full_name(pair.theirs), shape, pair.note()))
    assert own.keys() == {pair.ours for _, pair in plan.pairs}
    names = [str(label) for label in range(plan.classes)]
    choices = {"class_net": plan.class_net.model_dump(), "modulation": plan.modulation.model_dump(), "classes": names}
    return Whole(choices, generator.whole_state(), matched)


def loaded(network: Any, plan: NetworkPlan, state: dict[str, Tensor]) -> nn.Module:
    """The network with a state, and then with what is made of it. Raises UserError where its head does not fit."""
    if plan.head:
        try:
            network.load_source(state)
        except (RuntimeError, KeyError) as error:
            problem = f"fit: {' '.join(str(error).split())[:200]}"
            raise plan.theirs.refused("the last layer", problem) from None
        return network
    network.load_state_dict(state | {name: network.state_dict()[name] for name in plan.new})
    with torch.no_grad():
        for name, made in plan.new.items():
            network.state_dict()[name].copy_(made.make(network))
    return network
