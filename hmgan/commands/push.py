"""`hmgan push`: an exported folder onto a model hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from hmgan.config.loading import portable
from hmgan.errors import UserError, redacted
from hmgan.generators.centres import CENTRES
from hmgan.generators.hub import endpoint, is_repository
from hmgan.generators.snapshot import load_generator
from hmgan.generators.source import CONFIG, DISCRIMINATOR, GENERATOR
from hmgan.importers.layouts_written import ADA, ROSINALITY
from hmgan.options.models import PushOptions

# What belongs to a model; whatever else lies in the folder stays here.
FILES = (
    *(GENERATOR, CONFIG, "README.md", DISCRIMINATOR, CENTRES, "experiment.json"),
    *(ADA, ROSINALITY, "model.onnx", "model.onnx.data"),
)


def push(options: PushOptions) -> None:
    """Uploads the files of a model, in one commit.

    Raises: UserError for a folder without a model or its card, one with paths of this machine, a name that is none, or
        a hub that refuses.
    """
    folder, repository = options.folder, options.repository
    if not is_repository(repository):
        raise UserError(f"a repository is OWNER/NAME, such as anna/bags, got {repository!r}")
    if not all((folder / name).is_file() for name in FILES[:3]):
        raise UserError(f"{folder} lacks one of {', '.join(FILES[:3])}; give a folder that hmgan export wrote")
    config = load_generator(folder).config  # that it can be read again
    if portable(config) != config:
        raise UserError(
            f"{folder}/{CONFIG} holds paths of this machine; run `hmgan export {folder} NEW`, and push that"
        )
    names = [name for name in FILES if (folder / name).is_file()]
    size = sum((folder / name).stat().st_size for name in names) / 1e6
    print(f"{repository} at {redacted(endpoint())}: {', '.join(names)}, {size:.1f} MB")
    if options.dry_run:
        return
    try:
        print(redacted(upload(folder, names, options)))
    except Exception as error:  # the client lets those of its HTTP library through, which one depends on its version
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{endpoint()} refuses ({reason}); log in with hf auth login, or set HF_TOKEN") from None


def upload(folder: Path, names: list[str], options: PushOptions) -> str:
    """The address of the repository."""
    api = HfApi(endpoint=endpoint())
    url = api.create_repo(options.repository, private=options.private or None, exist_ok=True)
    files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    api.create_commit(options.repository, files, commit_message=options.message)
    return str(url)
