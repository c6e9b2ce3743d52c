"""URLs of data, which must carry no secrets: they are kept in every run directory."""

from __future__ import annotations

from urllib.parse import urlsplit

from hmgan.errors import UserError


def is_url(name: str) -> bool:
    """Whether a name is a URL, not a path or a registry entry."""
    return "://" in name


def checked(url: str) -> str:
    """The URL. Raises UserError, which does not repeat it, for one that carries a password or a token."""
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise UserError(
            f"a URL of data must hold no user, password or query, got one before or after {bare}; "
            "put credentials into the environment, such as AWS_ACCESS_KEY_ID"
        )
    return url
