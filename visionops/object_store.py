"""Access to object stores. Credentials and the endpoint are those of the environment.

``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` for MinIO and others, ``AWS_DEFAULT_REGION``.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs

from visionops.errors import DataError

__all__ = ["first_line", "open_prefix"]


def open_prefix(uri: str, patience: float | None = None) -> tuple[Any, str]:
    """Return the file system of Arrow that has ``s3://bucket/prefix``, and the path in it.

    Args:
        patience: Seconds after which a request that stands still is given up; by default a store that hangs is waited
            for through minutes.

    Raises:
        DataError: It is no such URI, or its store cannot be reached.
    """
    if not uri.startswith("s3://") or not uri.removeprefix("s3://").split("?")[0].strip("/"):
        raise DataError(f"{uri}: name a folder, or a bucket and prefix as s3://bucket/prefix")
    try:
        store, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: is no URI of an object store ({first_line(error)})") from error
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


def first_line(error: BaseException) -> str:
    """Return what an error of Arrow's says, without the identity of the request."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" (Request ID")[0]
