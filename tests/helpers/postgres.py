"""Run a PostgreSQL server for a test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers.programs import until

__all__ = ["PASSWORD", "Postgres", "postgres_server"]

PASSWORD = "not in any log"


class Postgres:
    """A server that is reached by a socket in its folder, with a password; `start` and `stop` may be repeated."""

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

    def processes(self) -> dict[int, str]:
        """Return the kind of each process of the postmaster, by its id: ``client``, ``checkpointer``, …"""
        found = {}
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._postmaster()).children():
                with suppress(psutil.NoSuchProcess):
                    # postgres: checkpointer, or postgres: tester postgres [local] idle
                    words = " ".join(child.cmdline()).removeprefix("postgres: ")
                    found[child.pid] = "client" if words.startswith("tester ") else words.strip()
        return {pid: name for pid, name in found.items() if name and not name.startswith("/")}

    def kill(self) -> None:
        """Kill the postmaster; its other processes end when they notice."""
        postmaster = self._postmaster()
        os.kill(postmaster, signal.SIGKILL)
        until(lambda: _is_gone(postmaster), 60)

    def restart(self) -> None:
        """Start a server that was killed, after the last of its processes has ended."""
        until(lambda: not self._has_processes(), 60)
        # Until the postmaster is reaped its process id stays taken, and no other would start.
        for lock in (self._folder / "data" / "postmaster.pid", *self._folder.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)
        self.start()

    def _has_processes(self) -> bool:
        data = str(self._folder / "data")
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # one that has just ended, or is a zombie
                if process.cwd() == data:
                    return True
        return False

    def _postmaster(self) -> int:
        return int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # Not into pipes, which the server would hold open.
        subprocess.run(
            command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._account
        )


def _is_gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Yield a running server; skip the test where PostgreSQL is not installed."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), *filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.skip("needs PostgreSQL")
    # Not in pytest's folder, which other accounts cannot enter.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        server = Postgres(Path(name), Path(found[-1]).resolve().parent)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
