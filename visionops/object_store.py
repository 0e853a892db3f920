"""Open object stores, with credentials and endpoint from the environment.

S3: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` for MinIO and others, ``AWS_DEFAULT_REGION``.
Google: ``GOOGLE_APPLICATION_CREDENTIALS``, the login of ``gcloud auth application-default login``, or the account of
the machine; ``STORAGE_EMULATOR_HOST`` for an emulator, which gets no credentials.
"""

from __future__ import annotations

import datetime
import os
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from visionops.errors import DataError

__all__ = ["access_hint", "first_line", "open_prefix"]

_GOOGLE_PATIENCE = 30.0
"""Seconds after which Google's client stops retrying; its default is a quarter of an hour."""
_GOOGLE_REASONS = tuple(
    re.compile(rf"{before} (.*?)(?: error_info=|$)") for before in ("underlying error message was:", "last message of")
)


def open_prefix(uri: str, patience: float | None = None) -> tuple[Any, str]:
    """Return the Arrow file system for ``s3://bucket/prefix`` or ``gs://bucket/prefix``, and the path in it.

    Args:
        patience: Seconds after which a request without progress fails; by default a store that hangs blocks for
            minutes.

    Raises:
        DataError: The URI is invalid, or its store cannot be reached.
    """
    scheme, _, place = uri.partition("://")
    if scheme not in {"s3", "gs"} or not place.split("?")[0].strip("/"):
        raise DataError(f"{uri}: expected a folder, s3://bucket/prefix or gs://bucket/prefix")
    if scheme == "gs":
        return _open_google(uri, _GOOGLE_PATIENCE if patience is None else patience)
    try:
        store, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: not a URI of an object store ({first_line(error)})") from error
    return (store if patience is None else _bounded(store, uri, patience)), path.rstrip("/")


def _bounded(store: Any, uri: str, patience: float) -> Any:
    options = dict(parse_qsl(urlsplit(uri).query))
    return pyarrow.fs.S3FileSystem(
        region=store.region,
        endpoint_override=options.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL"),
        scheme=options.get("scheme"),
        connect_timeout=patience / 2,
        request_timeout=patience,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=2),
    )


def _open_google(uri: str, patience: float) -> tuple[Any, str]:
    parts = urlsplit(uri)
    user, _, bucket = parts.netloc.rpartition("@")
    if user not in {"", "anonymous"} or not bucket or parts.query:
        raise DataError(f"{uri}: expected gs://bucket/prefix, or gs://anonymous@bucket/prefix for a public bucket")
    scheme, _, emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rpartition("://")
    store = pyarrow.fs.GcsFileSystem(
        anonymous=bool(user or emulator),
        scheme=(scheme or "http") if emulator else "https",
        endpoint_override=emulator.rstrip("/") or None,
        retry_time_limit=datetime.timedelta(seconds=patience),
    )
    return store, f"{bucket}{unquote(parts.path)}".rstrip("/")


def access_hint(uri: str) -> str:
    """Return what to check when the store of ``uri`` refuses a request or does not answer."""
    if uri.startswith("gs://"):
        return "GOOGLE_APPLICATION_CREDENTIALS, or gs://anonymous@bucket/prefix for a public bucket"
    return "AWS_ENDPOINT_URL and the credentials"


def first_line(error: BaseException) -> str:
    """Return the first line of an Arrow error, without the request ID."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" (Request ID")[0]
    found = next((match for reason in _GOOGLE_REASONS if (match := reason.search(line))), None)
    return found[1] if found and "google::cloud::Status" in line else line
