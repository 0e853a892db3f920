"""Fixtures with real services for the doctor, and an address without one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cluster import Cluster, running_cluster
from tests.helpers.s3 import s3_bucket, s3_server


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """Return an address at which nothing listens or can listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address, s3_bucket(address, "vision"):
        yield address


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as cluster:
        yield cluster
