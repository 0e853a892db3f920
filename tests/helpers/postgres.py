"""A PostgreSQL server of a test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["PASSWORD", "Postgres", "postgres_server"]

PASSWORD = "not in any log"


class Postgres:
    """Reached by a socket in its folder, with a password; `start` and `stop` as often as wanted."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.uri = f"postgresql://tester@/postgres?host={folder}"
        self._folder = folder
        self._programs = programs
        # It refuses to run as root.
        self._account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def make(self) -> None:
        if self._account:
            shutil.chown(self._folder, "postgres", "postgres")
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--username=tester", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--encoding=UTF8"]
        self._run("initdb", "--pgdata", str(self._folder / "data"), *options)

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run(
            "pg_ctl", "start", "--wait", "-D", str(self._folder / "data"), "-o", options, "-l", f"{self._folder}/log"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "-m", "immediate", "-D", str(self._folder / "data"))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # Not into pipes: the server would hold them open.
        subprocess.run(
            command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._account
        )


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """One that runs; skips the test where PostgreSQL is not installed."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), *filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.skip("needs PostgreSQL")
    # Not in pytest's folder, which other accounts may not enter.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        server = Postgres(Path(name), Path(found[-1]).resolve().parent)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
