"""An S3 server in this process, and empty prefixes on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs
import pytest

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Address of one that runs while the block does."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        yield "http://{}:{}".format(*running.get_host_and_port())
    finally:
        running.stop()


@contextmanager
def s3_bucket(address: str, name: str) -> Iterator[str]:
    """URI of an empty bucket of the server, which the environment names while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (
            ("ACCESS_KEY_ID", "me"),
            ("SECRET_ACCESS_KEY", "mine"),
            ("DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(f"AWS_{variable}", value)
        patch.setenv("AWS_ENDPOINT_URL", address)
        uri = f"s3://{name}?allow_bucket_creation=true&allow_bucket_deletion=true"
        store, _ = pyarrow.fs.FileSystem.from_uri(uri)
        store.create_dir(name)
        yield f"s3://{name}"
        store.delete_dir(name)
