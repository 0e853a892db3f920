"""Check the addresses of object stores and databases; many people read them, so they must hold no secret."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic_core import PydanticCustomError

__all__ = ["SECRET_ERROR", "check_google_prefix", "check_prefix", "check_store", "check_url"]

SECRET_ERROR = "holds_secret"  # noqa: S105 - the name of an error
"""Type of the pydantic error for an address that holds a password; messages must not show its value."""

_SECRET_PARAMETER = re.compile(r"signature|token|password|secret|credential|api.?key|^sig$|^key$", re.IGNORECASE)
"""Parameters by which signed addresses of object stores grant access to anyone who has them."""


def check_store(uri: str) -> str:
    """Return ``uri`` unchanged if it can name a store of predictions.

    Raises:
        ValueError: It does not name a store, or it holds a password (`SECRET_ERROR`): other users can read command
            lines.
    """
    parts = _parts(uri)
    if not (parts.scheme in {"postgresql", "postgres"} or _is_bucket(parts)) or "://" not in uri:
        raise ValueError("must be s3://bucket/prefix or postgresql://user@host/database")
    return uri


def check_prefix(uri: str) -> str:
    """Return ``uri`` without trailing slashes if it can name a prefix in an object store.

    Raises:
        ValueError: It does not name a prefix, or it holds a password (`SECRET_ERROR`).
    """
    if not _is_bucket(_parts(uri)) or not uri.startswith("s3://"):
        raise ValueError("must be s3://bucket/prefix")
    return uri.rstrip("/")


def check_google_prefix(uri: str) -> str:
    """Return ``uri`` without trailing slashes if it can name a prefix in Google Cloud Storage.

    Raises:
        ValueError: It does not name a prefix, or it holds a password (`SECRET_ERROR`).
    """
    parts = _parts(uri)
    if parts.scheme != "gs" or not parts.hostname or parts.username not in {None, "anonymous"} or parts.query:
        raise ValueError("must be gs://bucket/prefix, or gs://anonymous@bucket/prefix for a public bucket")
    return uri.rstrip("/")


def check_url(url: str) -> str:
    """Return ``url`` unchanged if it can name a file on a web server.

    Raises:
        ValueError: It does not name a file, or it holds a password, key or signature (`SECRET_ERROR`): runs store
            their settings.
    """
    try:
        parts = urlsplit(url)
        is_file = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.path.strip("/") != ""
        _ = parts.port  # raises if it is not a number
    except ValueError:
        is_file = False
    if not is_file or not url.isprintable() or " " in url:
        raise ValueError("must be https://host/path of an archive")
    if parts.username or parts.password:
        raise PydanticCustomError(SECRET_ERROR, "holds a login; remove it and put it into ~/.netrc")
    if secret := next((name for name in parse_qs(parts.query) if _SECRET_PARAMETER.search(name)), None):
        raise PydanticCustomError(
            SECRET_ERROR,
            "holds a secret in its parameter {name}, which runs would store; use a public file, or put the login "
            "into ~/.netrc",
            {"name": secret},
        )
    return url


def _parts(uri: str) -> SplitResult:
    """Return the parts of an address; raise if it holds a password."""
    try:
        parts = urlsplit(uri)
        secret = parts.password or parse_qs(parts.query).get("password")
    except ValueError:
        return urlsplit("")
    if secret:
        raise PydanticCustomError(
            SECRET_ERROR, "holds a password; remove it and set PGPASSWORD, or AWS_SECRET_ACCESS_KEY"
        )
    return parts


def _is_bucket(parts: SplitResult) -> bool:
    return parts.scheme == "s3" and bool(parts.netloc)
