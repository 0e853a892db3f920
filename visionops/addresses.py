"""Addresses of object stores and databases, which are read by many and so hold no secret."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic_core import PydanticCustomError

__all__ = ["SECRET_ERROR", "check_prefix", "check_store"]

SECRET_ERROR = "holds_secret"  # noqa: S105 - a name of an error
"""Type of pydantic's error about an address that holds a password: it must not be shown."""


def check_store(uri: str) -> str:
    """Return ``uri`` as it is, when it can name a store of predictions.

    Raises:
        ValueError: It names none, or holds a password (`SECRET_ERROR`): command lines are read by many.
    """
    parts = _parts(uri)
    if not (parts.scheme in {"postgresql", "postgres"} or _is_bucket(parts)) or "://" not in uri:
        raise ValueError("must be s3://bucket/prefix or postgresql://user@host/database")
    return uri


def check_prefix(uri: str) -> str:
    """Return ``uri`` without its last slashes, when it can name a prefix of an object store.

    Raises:
        ValueError: It names none, or holds a password (`SECRET_ERROR`).
    """
    if not _is_bucket(_parts(uri)) or not uri.startswith("s3://"):
        raise ValueError("must be s3://bucket/prefix")
    return uri.rstrip("/")


def _parts(uri: str) -> SplitResult:
    """Return the parts of an address that holds no password."""
    try:
        parts = urlsplit(uri)
        secret = parts.password or parse_qs(parts.query).get("password")
    except ValueError:
        return urlsplit("")
    if secret:
        raise PydanticCustomError(
            SECRET_ERROR, "holds a password; leave it out and set PGPASSWORD, or AWS_SECRET_ACCESS_KEY"
        )
    return parts


def _is_bucket(parts: SplitResult) -> bool:
    return parts.scheme == "s3" and bool(parts.netloc)
