"""Generators of a model hub: their safetensors and JSON, and nothing else of what a repository holds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from hmgan.errors import UserError
from hmgan.generators.centres import CENTRES
from hmgan.generators.source import CONFIG, DISCRIMINATOR, GENERATOR

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_repository(name: str) -> bool:
    """Whether it reads like OWNER/NAME."""
    return REPOSITORY.fullmatch(name) is not None


def endpoint() -> str:
    """The hub's address: the public one's, or what HF_ENDPOINT says."""
    return os.environ.get("HF_ENDPOINT") or constants.ENDPOINT


def hub_folder(repository: str) -> Path:
    """The folder in the hub's cache that holds the generator of a repository, fetched where it is not there yet.

    Raises: UserError where hub or repository are out of reach, or the repository holds no generator of hmgan.
    """
    try:
        config = Path(hf_hub_download(repository, CONFIG, endpoint=endpoint()))
        more = {"discriminator": DISCRIMINATOR, "centres": CENTRES}
        told = json.loads(config.read_text(encoding="utf-8"))
        for name in (GENERATOR, *(name for key, name in more.items() if key in told)):
            hf_hub_download(repository, name, endpoint=endpoint())
    except LocalEntryNotFoundError:
        raise UserError(f"no generator at {repository}: no such folder, and {endpoint()} is out of reach") from None
    except RepositoryNotFoundError:
        raise UserError(f"no generator at {repository}: no such folder, nor repository of {endpoint()}") from None
    except EntryNotFoundError:
        wanted = f"{CONFIG} and {GENERATOR}"
        raise UserError(f"{repository} of {endpoint()} lacks {wanted}; give a model that hmgan exported") from None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"no generator at {repository}: no such folder, and the hub says: {reason}") from None
    return config.parent
