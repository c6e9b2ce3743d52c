"""`hmgan import`: a foreign checkpoint becomes a source, with a report of every tensor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.files import sha256_of, write_folder_atomically
from hmgan.generators.source import component, save_source
from hmgan.importers import stylegan1_port
from hmgan.importers.import_report import ImportReport, LeftOut, Match, show
from hmgan.importers.stylegan1_port import NetworkPlan

REPORT = "report.txt"
STDDEV_GROUP = 4  # samples: the port's own batch at high resolutions, and any number of ranks
COMPONENTS: dict[str, tuple[Any, ...]] = {"generator": ("backbone",), "discriminator": ("discriminator", 1)}


class Converted(NamedTuple):
    """A network of ours with the checkpoint's weights, and what became of the checkpoint's tensors."""

    choice: Choice
    network: nn.Module
    matched: list[Match]
    left_out: list[LeftOut]


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    resolution: int | None = None,
    stddev_group: int = STDDEV_GROUP,
    report: Callable[[ImportReport], object] = show,
) -> ImportReport:
    """Converts the generator (its moving average, where there is one) and the discriminator of a checkpoint.

    Args:
        out: a new folder; it appears once it is whole.
        resolution: output pixels; the highest that the file has a to-RGB layer for where left out.
        stddev_group: the discriminator's setting; 0 takes the whole batch, as the port does, on one rank alone.
        report: called with the finished report, which `out` also keeps as report.txt.

    Raises: UserError for anything but a new folder and a checkpoint of the port. Nothing is written then.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; give a new folder or move it away")
    if stddev_group < 0:
        raise UserError(f"stddev_group must be 0 (the whole batch) or a number of samples, got {stddev_group}")
    read = stylegan1_port.read(path, open_checkpoint(path), resolution, stddev_group)
    converted = {plan.network: convert(plan) for plan in read.plans}
    digest = sha256_of(path)
    done = ImportReport(
        title=f"{path.name}: {' and '.join(converted)} at {read.resolution} px, sha256 {digest}",
        notes=read.notes,
        matched=tuple(match for one in converted.values() for match in one.matched),
        new=(),
        left_out=(*read.unused, *(left for one in converted.values() for left in one.left_out)),
    )
    origin = {"imported_from": path.name, "imported_sha256": digest, "imported_weights": read.weights}

    def fill(folder: Path) -> None:
        (folder / REPORT).write_text(done.text(), encoding="utf-8")
        built = {name: (one.choice, one.network) for name, one in converted.items()}
        save_source(folder, built["generator"], built.get("discriminator"), origin)

    try:
        write_folder_atomically(out, fill)
    except OSError as error:
        problem = error.strerror or error
        raise UserError(f"{out} cannot be written: {problem}; give a folder on a disk with room") from None
    report(done)
    return done


def open_checkpoint(path: Path) -> Mapping[str, Any]:
    """The dictionary in a PyTorch file, read without running any code of it. Raises UserError for any other file."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not there"
        raise UserError(f"{path} {kind}; give the checkpoint file of {stylegan1_port.NAME}")
    try:
        with path.open("rb") as file:
            head = file.read(256).lstrip()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    wanted = f"{path} should be a PyTorch checkpoint"
    if head.startswith(b"<"):
        raise UserError(f"{wanted}, got a web page; download the file that the page links to")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes may make the reader raise
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            got = f"got {code[1]}, and nothing was run"
            raise UserError(f"{path} should hold tensors only, {got}; save the networks' state_dict()s") from None
        reason = "it is empty" if not head else "it is cut short or of another kind"
        raise UserError(f"{wanted}, but {reason}; download or save it again") from None
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        got = type(content).__name__
        raise UserError(f"{path} should hold a dictionary of networks, got a {got}; {stylegan1_port.OTHER}")
    return content


def convert(plan: NetworkPlan) -> Converted:
    """A network of ours, by its plan. Raises UserError for a missing, misshapen or non-finite tensor."""
    theirs = plan.theirs
    choice, (kind, *parts) = Choice(name=plan.component, **plan.options), COMPONENTS[plan.network]
    # Without memory at first: a file of the wrong widths can ask for any amount.
    with torch.device("meta"):
        empty: nn.Module = component(kind, choice, *parts)
    shapes = {key: tuple(tensor.shape) for key, tensor in empty.state_dict().items()}
    assert shapes.keys() == {pair.ours for pair in plan.pairs}
    state, matched = {}, []
    for pair in plan.pairs:
        tensor, shape = theirs.get(pair.theirs), shapes[pair.ours]
        wanted, got = pair.layout.theirs(shape), tuple(tensor.shape)
        if got != wanted:
            raise theirs.refused(pair.theirs, f"be {wanted}, got {got}")
        if not bool(tensor.isfinite().all()):
            raise theirs.refused(pair.theirs, "be finite, got infinity or NaN", "give an earlier checkpoint")
        state[pair.ours] = pair.convert(tensor)
        matched.append(Match(plan.network, pair.ours, theirs.full_name(pair.theirs), shape, pair.note()))
    network: nn.Module = component(kind, choice, *parts)
    network.load_state_dict(state)
    rest = [key for key in theirs.tensors if key not in {pair.theirs for pair in plan.pairs}]
    left_out = [LeftOut(plan.network, theirs.full_name(key), plan.reason(key)) for key in rest]
    return Converted(choice, network, matched, left_out)
