"""`hmgan import`: a checkpoint of the public StyleGAN1 PyTorch port becomes a source, with a report of every tensor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hmgan import components
from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.files import sha256_of, write_folder_atomically
from hmgan.generators.source import save_source
from hmgan.importers.import_report import LeftOut, Match, Report, show
from hmgan.importers.stylegan1_port import (
    CONST,
    LOGIT,
    OTHER,
    Plan,
    PortNetwork,
    check_blur,
    plan_discriminator,
    plan_generator,
    resolutions,
    trained_resolutions,
)

REPORT = "report.txt"
AVERAGED, RAW, DISCRIMINATOR = "g_running", "generator", "discriminator"


class Converted(NamedTuple):
    """A network of ours with the port's weights, and what became of the port's tensors."""

    choice: Choice
    network: nn.Module
    matched: list[Match]
    left_out: list[LeftOut]


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    resolution: int | None = None,
    stddev_group: int = 0,
    report: Callable[[Report], object] = show,
) -> Report:
    """Converts the generator (its running average, where there is one) and the discriminator of a checkpoint.

    Args:
        out: a new folder; it appears once it is whole.
        resolution: output pixels; the highest that the file has a to-RGB layer for where left out.
        stddev_group: the discriminator's setting; 0 takes the whole batch, as the port does.
        report: called with the finished report, which `out` also keeps as report.txt.

    Raises: UserError for anything but a new folder and a checkpoint of the port. Nothing is written then.
    """
    _check_asked(out, stddev_group)
    networks, unused = split_networks(path, open_checkpoint(path))
    generator = networks["generator"]
    resolution = choose_resolution(generator, resolution)
    plans = {"generator": plan_generator(generator, resolution)}
    if "discriminator" in networks:
        plans["discriminator"] = plan_discriminator(networks["discriminator"], resolution, stddev_group)
    converted = {name: convert(name, networks[name], plan) for name, plan in plans.items()}
    digest = sha256_of(path)
    done = Report(
        title=f"{path.name}: {' and '.join(plans)} at {resolution} px, sha256 {digest}",
        notes=_notes(generator, resolution, "discriminator" in plans),
        matched=tuple(match for one in converted.values() for match in one.matched),
        new=(),
        left_out=(*unused, *(left for one in converted.values() for left in one.left_out)),
    )
    weights = generator.label or "bare state dict"
    origin = {"imported_from": path.name, "imported_sha256": digest, "imported_weights": weights}
    _write(out, done, converted, origin)
    report(done)
    return done


def _check_asked(out: Path, stddev_group: int) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; give a new folder or move it away")
    if stddev_group < 0:
        raise UserError(f"stddev_group must be 0 (the whole batch) or a number of samples, got {stddev_group}")


def _write(out: Path, report: Report, converted: Mapping[str, Converted], origin: Mapping[str, str]) -> None:
    """The folder of a source, all or nothing, with the report in it."""

    def fill(folder: Path) -> None:
        (folder / REPORT).write_text(report.text(), encoding="utf-8")
        built = {name: (one.choice, one.network) for name, one in converted.items()}
        save_source(folder, built["generator"], built.get("discriminator"), origin)

    try:
        write_folder_atomically(out, fill)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written: {error.strerror or error}; give a folder on a disk with room"
        ) from None


def open_checkpoint(path: Path) -> Mapping[str, Any]:
    """The dictionary in a PyTorch file, read without running any code of it. Raises UserError for any other file."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not there"
        raise UserError(f"{path} {kind}; give the checkpoint file of the StyleGAN1 PyTorch port")
    try:
        with path.open("rb") as file:
            head = file.read(256).lstrip()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    if head.startswith(b"<"):
        raise UserError(
            f"{path} should be a PyTorch checkpoint, got a web page; download the file that the page links to"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes may make the reader raise
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise UserError(
                f"{path} should hold tensors only, got {code[1]}, and nothing was run; save the networks' state_dict()s"
            ) from None
        reason = "it is empty" if not head else "it is cut short or of another kind"
        raise UserError(f"{path} should be a PyTorch checkpoint, but {reason}; download or save it again") from None
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} should hold a dictionary of networks, got a {type(content).__name__}; {OTHER}")
    return content


def split_networks(path: Path, content: Mapping[str, Any]) -> tuple[dict[str, PortNetwork], list[LeftOut]]:
    """The generator, the discriminator where there is one, and what else the file holds."""
    if _is_state_dict(content):
        content = {"": content}
    parts = {key: _strip(value) for key, value in content.items() if isinstance(value, Mapping)}
    chosen = _chosen_generator(path, parts, content)
    picked = {"generator": chosen} | ({"discriminator": DISCRIMINATOR} if DISCRIMINATOR in parts else {})
    networks = {name: PortNetwork(str(path), key, parts[key]) for name, key in picked.items()}
    for network in networks.values():
        _check_plain(network)
    rest = {key: value for key, value in content.items() if key not in picked.values()}
    return networks, [entry for key, value in rest.items() for entry in _left_out(key, value)]


def _is_state_dict(content: Mapping[str, Any]) -> bool:
    """Whether it is one network's tensors, and not a dictionary of networks."""
    return not {AVERAGED, RAW} & content.keys() and any(isinstance(value, Tensor) for value in content.values())


def _chosen_generator(path: Path, parts: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The key of the generator to take. Raises UserError where there is none."""
    chosen = next((key for key in (AVERAGED, RAW, "") if key in parts), None)
    if chosen is None:
        keys = ", ".join(sorted(content)[:6]) or "nothing"
        raise UserError(f"{path} should have {AVERAGED!r} or {RAW!r}, got {keys}; {OTHER}")
    if CONST not in parts[chosen]:
        got = "a discriminator" if LOGIT in parts[chosen] else f"{len(parts[chosen])} others"
        raise UserError(f"{path}: {chosen or 'the file'} should hold {CONST}, got {got}; {OTHER}")
    return chosen


def _left_out(key: str, value: Any) -> list[LeftOut]:
    """A part that is not used. A raw generator is one of those only beside its average."""
    if key == RAW and isinstance(value, Mapping):
        reason = f"raw weights; {AVERAGED} is used"
        return [LeftOut("raw generator", f"{key}/{name}", reason) for name in _strip(value)]
    return [LeftOut(key, key, f"no network of the port, {_count(value)} tensors")]


def choose_resolution(generator: PortNetwork, wanted: int | None) -> int:
    """The wanted output size, or the file's highest. Raises UserError where the file has no to-RGB layer for it."""
    known = resolutions(generator)
    if not known:
        raise UserError(f"{generator.where} should hold a to-RGB layer, got none; {OTHER}")
    if wanted is not None and wanted not in known:
        sizes = ", ".join(map(str, known))
        raise UserError(f"{generator.where} has no output of {wanted} px; choose --resolution among {sizes}")
    return wanted or known[-1]


def convert(name: str, port: PortNetwork, plan: Plan) -> Converted:
    """A network of ours with the port's weights. Raises UserError for a missing, misshapen or non-finite tensor."""
    kind, parts = ("backbone", ()) if name == "generator" else ("discriminator", (1,))
    # Without memory at first: a file of the wrong widths can ask for any amount.
    with torch.device("meta"):
        wanted_state = components.build(kind, "stylegan1", *parts, **plan.options).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in wanted_state.items()}
    assert shapes.keys() == {pair.ours for pair in plan.pairs}
    state: dict[str, Tensor] = {}
    matched: list[Match] = []
    for pair in plan.pairs:
        theirs = port.full_name(pair.theirs)
        tensor = port.get(pair.theirs)
        wanted, got = pair.layout.theirs(shapes[pair.ours]), tuple(tensor.shape)
        if got != wanted:
            raise UserError(f"{port.where}: {theirs} should be {wanted}, got {got}; {OTHER}")
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{port.where}: {theirs} should be finite, got infinity or NaN; give an earlier checkpoint")
        state[pair.ours] = pair.convert(tensor)
        matched.append(Match(name, pair.ours, theirs, shapes[pair.ours], pair.note()))
    network: nn.Module = components.build(kind, "stylegan1", *parts, **plan.options)
    network.load_state_dict(state)
    used = {pair.theirs for pair in plan.pairs}
    rest = [key for key in port.tensors if key not in used]
    left = [
        LeftOut(name, port.full_name(key), "constant" if check_blur(port, key) else plan.reason(key)) for key in rest
    ]
    return Converted(Choice(name="stylegan1", **plan.options), network, matched, left)


def _notes(generator: PortNetwork, resolution: int, has_discriminator: bool) -> tuple[str, ...]:
    notes = [] if has_discriminator else ["no discriminator in the file; training will begin with a new one"]
    trained = trained_resolutions(generator)
    if trained and resolution not in trained:
        notes.append(f"the to-RGB layer at {resolution} px looks untrained; consider --resolution {trained[-1]}")
    return tuple(notes)


def _strip(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Without the prefix that DataParallel puts before every name."""
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _check_plain(port: PortNetwork) -> None:
    """Raises UserError unless every value is a dense floating-point tensor with memory of its own."""
    for name, value in port.tensors.items():
        dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        # A tensor can claim more numbers than its file holds; copying one would fill the memory.
        if dense and value.is_floating_point() and value.nbytes <= value.untyped_storage().nbytes():
            continue
        got = f"{value.dtype} {tuple(value.shape)}" if dense else f"a {type(value).__name__}"
        raise UserError(f"{port.where}: {port.full_name(name)} should be a floating-point tensor, got {got}; {OTHER}")


def _count(value: Any) -> int:
    """Tensors anywhere in nested dictionaries and lists."""
    if isinstance(value, Mapping):
        return sum(map(_count, value.values()))
    return sum(map(_count, value)) if isinstance(value, list | tuple) else int(isinstance(value, Tensor))
